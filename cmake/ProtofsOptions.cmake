# Language, warnings, hardening and sanitizers, as two INTERFACE targets:
#   protofs_warnings  the warning flags
#   protofs_options   all of it; every target of ours links this one

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")

include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
	set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Type of build" FORCE)
endif()

add_library(protofs_warnings INTERFACE)
target_compile_options(protofs_warnings INTERFACE
	-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual
	-Wmissing-prototypes -Wvla -Wundef -Wformat=2 -Wswitch-enum
	$<$<BOOL:${PROTOFS_WERROR}>:-Werror>)

add_library(protofs_options INTERFACE)
target_link_libraries(protofs_options INTERFACE protofs_warnings Threads::Threads)
target_compile_definitions(protofs_options INTERFACE
	_GNU_SOURCE
	_FILE_OFFSET_BITS=64
	PROTOFS_VERSION="${PROJECT_VERSION}")

# __FILE__ names a file from the root of the project, wherever it was built.
target_compile_options(protofs_options INTERFACE
	-ffunction-sections
	-fdata-sections
	-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=
	$<$<NOT:$<CONFIG:Debug>>:-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>)
target_link_options(protofs_options INTERFACE -Wl,--gc-sections -Wl,--as-needed)

# A sanitizer replaces the functions that _FORTIFY_SOURCE would check.
if(PROTOFS_SANITIZE)
	target_compile_options(protofs_options INTERFACE
		-fsanitize=${PROTOFS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	target_link_options(protofs_options INTERFACE -fsanitize=${PROTOFS_SANITIZE})
elseif(PROTOFS_HARDEN)
	target_compile_options(protofs_options INTERFACE
		-fstack-protector-strong
		-fstack-clash-protection
		$<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
		$<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
	target_link_options(protofs_options INTERFACE -Wl,-z,relro,-z,now)
endif()

if(PROTOFS_FUZZ)
	if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
		message(FATAL_ERROR "PROTOFS_FUZZ needs clang: cmake --preset fuzz")
	endif()
	target_compile_options(protofs_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
