# What goes where at installation, and the packages.

if(TARGET protofs)
	install(TARGETS protofs RUNTIME COMPONENT protofs)
endif()
