# What goes where at installation, and the packages. Three components, each a package:
#   protofs      the program and what belongs to it
#   engine       libprotofs_engine.so, for programs that embed the engine
#   engine-dev   its headers, static library and pkg-config file

# The two libraries contain base and engine. Only what is marked PROTOFS_API is visible outside; in
# the static one the other names become local, lest they collide with a program's own.
if(TARGET protofs_base_objects AND TARGET protofs_engine_objects)
	set(objects $<TARGET_OBJECTS:protofs_base_objects>
		$<TARGET_OBJECTS:protofs_engine_objects>)
	set(libraries PkgConfig::XXHASH PkgConfig::URING Threads::Threads)

	add_library(protofs_engine_shared SHARED ${objects})
	target_link_libraries(protofs_engine_shared PRIVATE protofs_options ${libraries})
	if(NOT PROTOFS_SANITIZE)
		target_link_options(protofs_engine_shared PRIVATE -Wl,--no-undefined)
	endif()

	set(whole "${CMAKE_BINARY_DIR}/lib/protofs_engine_whole.o")
	add_custom_command(OUTPUT "${whole}"
		COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o "${whole}" ${objects}
		COMMAND ${CMAKE_OBJCOPY} --localize-hidden "${whole}"
		DEPENDS ${objects}
		COMMAND_EXPAND_LISTS VERBATIM)
	add_library(protofs_engine_static STATIC "${whole}")
	set_source_files_properties("${whole}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)

	set_target_properties(protofs_engine_shared protofs_engine_static PROPERTIES
		OUTPUT_NAME protofs_engine
		LINKER_LANGUAGE C
		VERSION ${PROJECT_VERSION}
		SOVERSION ${PROTOFS_SOVERSION})

	install(TARGETS protofs_engine_shared protofs_engine_static
		LIBRARY COMPONENT engine NAMELINK_COMPONENT engine-dev
		ARCHIVE COMPONENT engine-dev)

	# "engine/engine.h" includes "base/..." and <protofs/...>: the same folders as in the source
	set(headers "${CMAKE_INSTALL_INCLUDEDIR}/protofs-engine")
	file(GLOB base_headers CONFIGURE_DEPENDS base/*.h)
	file(GLOB interfaces CONFIGURE_DEPENDS include/protofs/*.h)
	install(FILES engine/engine.h engine/disk.h
		DESTINATION ${headers}/engine COMPONENT engine-dev)
	install(FILES ${base_headers} DESTINATION ${headers}/base COMPONENT engine-dev)
	install(FILES ${interfaces} DESTINATION ${headers}/protofs COMPONENT engine-dev)

	# The file finds its prefix from where it lies, so an installation may be moved.
	set(pkgconfig_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
	file(RELATIVE_PATH prefix_from_pkgconfig "/${pkgconfig_dir}" "/")
	configure_file(packaging/protofs-engine.pc.in protofs-engine.pc @ONLY)
	install(FILES "${CMAKE_BINARY_DIR}/protofs-engine.pc"
		DESTINATION ${pkgconfig_dir} COMPONENT engine-dev)
endif()

if(TARGET protofs)
	install(TARGETS protofs RUNTIME COMPONENT protofs)
	install(PROGRAMS packaging/mount.protofs
		DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT protofs)
	install(FILES packaging/protofs@.service
		DESTINATION lib/systemd/system COMPONENT protofs)
	install(FILES LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT protofs)
	if(EXISTS "${CMAKE_SOURCE_DIR}/packaging/protofs.bash")
		install(FILES packaging/protofs.bash RENAME protofs
			DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
			COMPONENT protofs)
	endif()
endif()

# docs/NAME.SECTION.scd
find_program(SCDOC scdoc)
mark_as_advanced(SCDOC)
file(GLOB pages CONFIGURE_DEPENDS docs/*.scd)
if(pages AND SCDOC)
	foreach(page IN LISTS pages)
		cmake_path(GET page STEM LAST_ONLY name)
		string(REGEX REPLACE "^.*\\." "" section ${name})
		set(output "${CMAKE_BINARY_DIR}/man/${name}")
		file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/man")
		add_custom_command(OUTPUT "${output}"
			COMMAND sh -c "\"$1\" <\"$2\" >\"$3\"" sh "${SCDOC}" "${page}" "${output}"
			DEPENDS "${page}"
			VERBATIM)
		list(APPEND outputs "${output}")
		install(FILES "${output}" COMPONENT protofs
			DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
	endforeach()
	add_custom_target(man ALL DEPENDS ${outputs})
elseif(pages)
	message(STATUS "No scdoc: the man pages are left out")
endif()

# --- packages: cpack -G DEB, or TGZ ---
set(CPACK_PACKAGE_NAME protofs)
set(CPACK_PACKAGE_VENDOR "The protofs authors")
set(CPACK_PACKAGE_CONTACT "The protofs authors <authors@protofs.invalid>")
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/packages")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL protofs engine engine-dev)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(CPACK_DEBIAN_PROTOFS_PACKAGE_NAME protofs)
set(CPACK_DEBIAN_PROTOFS_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PROTOFS_PACKAGE_DEPENDS fuse3)
set(CPACK_DEBIAN_PROTOFS_DEBUGINFO_PACKAGE ON)
set(CPACK_COMPONENT_PROTOFS_DESCRIPTION
	"It writes locally at the speed of the disk, publishes one root pointer by compare-and-swap,
and never acknowledges a byte that is not durable.")

set(CPACK_DEBIAN_ENGINE_PACKAGE_NAME libprotofs-engine${PROTOFS_SOVERSION})
set(CPACK_DEBIAN_ENGINE_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_ENGINE_DEBUGINFO_PACKAGE ON)
set(CPACK_COMPONENT_ENGINE_DESCRIPTION "Log of immutable atoms with one root pointer: library")

set(CPACK_DEBIAN_ENGINE-DEV_PACKAGE_NAME libprotofs-engine-dev)
set(CPACK_DEBIAN_ENGINE-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_ENGINE-DEV_PACKAGE_DEPENDS
	"libprotofs-engine${PROTOFS_SOVERSION} (= ${PROJECT_VERSION}), libxxhash-dev, liburing-dev")
set(CPACK_COMPONENT_ENGINE-DEV_DESCRIPTION
	"Log of immutable atoms with one root pointer: files for development")

include(CPack)
