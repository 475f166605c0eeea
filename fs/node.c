#include "fs/node.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/invariant.h"

enum { NODE_CHAINS = 4096 };

struct node_table {
	/* Written before the mount only, then read without a lock. */
	struct node *fixed[NODE_FIXED_MAX];

	pthread_mutex_t lock;             /* a leaf */
	struct node *chains[NODE_CHAINS]; /* by id; lock */
	uint64_t next_id;                 /* lock */
	size_t count;                     /* lock */
};

uint64_t node_make(enum node_kind kind, uint32_t number, uint64_t offset)
{
	invariant(kind < NODE_KINDS && number <= NODE_NUMBER_MAX && offset <= NODE_OFFSET_MAX);
	return (uint64_t)kind << NODE_KIND_SHIFT | (uint64_t)number << NODE_OFFSET_BITS | offset;
}

uint64_t node_of_root(uint64_t seq, bool by_time)
{
	invariant(seq <= NODE_ROOT_SEQ_MAX);
	return (uint64_t)NODE_ROOT << NODE_KIND_SHIFT | seq << 1 | (by_time ? 1 : 0);
}

uint64_t node_root_seq(uint64_t id)
{
	return (id & (((uint64_t)1 << NODE_KIND_SHIFT) - 1)) >> 1;
}

bool node_root_by_time(uint64_t id)
{
	return (id & 1) != 0;
}

int node_table_new(struct node_table **ret)
{
	struct node_table *table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	table->next_id = NODE_FIXED_MAX;
	*ret = table;
	return 0;
}

void node_table_free(struct node_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < NODE_CHAINS; i++) {
		while (table->chains[i]) {
			struct node *node = table->chains[i];
			table->chains[i] = node->next;
			if (node->free)
				node->free(node);
		}
	}
	pthread_mutex_destroy(&table->lock);
	free(table);
}

void node_add_fixed(struct node_table *table, enum node_fixed id, struct node *node,
		    const struct view *view)
{
	invariant(id > 0 && id < NODE_FIXED_MAX && !table->fixed[id]);
	node->id = id;
	node->view = view;
	node->free = NULL;
	table->fixed[id] = node;
}

int node_add(struct node_table *table, struct node *node, const struct view *view,
	     void (*free_node)(struct node *node))
{
	int r = -ENOSPC;

	pthread_mutex_lock(&table->lock);
	if (table->count < NODE_TABLE_MAX && table->next_id < NODE_OFFSET_MAX) {
		node->id = table->next_id++;
		node->view = view;
		node->free = free_node;
		atomic_init(&node->refs, 1);
		struct node **chain = &table->chains[node->id % NODE_CHAINS];
		node->next = *chain;
		*chain = node;
		table->count++;
		r = 0;
	}
	pthread_mutex_unlock(&table->lock);
	return r;
}

struct node *node_get(struct node_table *table, uint64_t id)
{
	if (id < NODE_FIXED_MAX)
		return table->fixed[id];

	pthread_mutex_lock(&table->lock);
	struct node *node = table->chains[id % NODE_CHAINS];
	while (node && node->id != id)
		node = node->next;
	if (node)
		node_ref(node, 1);
	pthread_mutex_unlock(&table->lock);
	return node;
}

void node_ref(struct node *node, uint64_t count)
{
	if (node->id >= NODE_FIXED_MAX)
		atomic_fetch_add(&node->refs, count);
}

static void table_remove(struct node_table *table, struct node *node)
{
	struct node **link = &table->chains[node->id % NODE_CHAINS];
	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	table->count--;
}

void node_unref(struct node_table *table, struct node *node, uint64_t count)
{
	if (node->id < NODE_FIXED_MAX)
		return;

	/* Under the lock, so that node_get() finds no node that is on its way out. */
	pthread_mutex_lock(&table->lock);
	uint64_t before = atomic_fetch_sub(&node->refs, count);
	invariant(before >= count);
	if (before == count)
		table_remove(table, node);
	pthread_mutex_unlock(&table->lock);
	if (before == count && node->free)
		node->free(node);
}
