# A module is a directory at the top of the tree. Its headers are named from there
# ("engine/engine.h"), which would let every file see every header. So that a module sees only
# what it may, each has an include root of its own, with nothing in it but a link to the module:
#
#   <build>/inc/engine/engine -> <source>/engine
#
# A target gets the roots of the modules that it links, hence the layers of the link graph are
# the layers of the includes; include/ holds interfaces only and is open to all.
# tests/build/layering.sh proves it.

# protofs_include_root(<name> <directory> <var>): make that root, return its path in <var>.
function(protofs_include_root name directory var)
	set(root "${CMAKE_BINARY_DIR}/inc/${name}")
	file(MAKE_DIRECTORY "${root}")
	file(CREATE_LINK "${directory}" "${root}/${name}" SYMBOLIC)
	set(${var} "${root}" PARENT_SCOPE)
endfunction()

# protofs_sources(<programs> <others>): the *.c of the current directory, those with a main() apart.
function(protofs_sources programs_var others_var)
	file(GLOB sources CONFIGURE_DEPENDS *.c)
	set(programs)
	set(others)
	foreach(source IN LISTS sources)
		file(STRINGS ${source} main REGEX "^int main\\(")
		if(main)
			list(APPEND programs ${source})
		else()
			list(APPEND others ${source})
		endif()
	endforeach()
	set(${programs_var} ${programs} PARENT_SCOPE)
	set(${others_var} ${others} PARENT_SCOPE)
endfunction()

# protofs_module(<name> [MODULES m...] [LIBRARIES l...])
# Adds protofs_<name> from the *.c of the current directory that have no main(). MODULES are the modules whose
# headers it may include, LIBRARIES are foreign. Its objects are protofs_<name>_objects.
# A module without sources becomes an INTERFACE library.
function(protofs_module name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "MODULES;LIBRARIES")
	protofs_include_root(${name} "${CMAKE_CURRENT_SOURCE_DIR}" root)
	list(TRANSFORM arg_MODULES PREPEND protofs_)

	protofs_sources(programs sources)
	if(NOT sources)
		add_library(protofs_${name} INTERFACE)
		target_include_directories(protofs_${name} INTERFACE "${root}"
			"${CMAKE_SOURCE_DIR}/include")
		target_link_libraries(protofs_${name} INTERFACE ${arg_MODULES} ${arg_LIBRARIES})
		return()
	endif()

	add_library(protofs_${name}_objects OBJECT ${sources})
	target_link_libraries(protofs_${name}_objects PRIVATE protofs_options
		PUBLIC ${arg_MODULES} ${arg_LIBRARIES})
	target_include_directories(protofs_${name}_objects PUBLIC "${root}"
		"${CMAKE_SOURCE_DIR}/include")

	add_library(protofs_${name} STATIC $<TARGET_OBJECTS:protofs_${name}_objects>)
	target_link_libraries(protofs_${name} PUBLIC ${arg_MODULES} ${arg_LIBRARIES}
		Threads::Threads)
	target_include_directories(protofs_${name} PUBLIC
		$<TARGET_PROPERTY:protofs_${name}_objects,INTERFACE_INCLUDE_DIRECTORIES>)
	set_target_properties(protofs_${name} PROPERTIES
		ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib/modules")
endfunction()

# protofs_program(<target> <source>...): an executable of ours.
function(protofs_program target)
	add_executable(${target} ${ARGN})
	target_link_libraries(${target} PRIVATE protofs_options)
endfunction()
