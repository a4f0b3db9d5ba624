package cli

import "runtime/debug"

// version is set by the linker: see the Makefile.
var version string

// Version returns the version of the running program: what the build gave it,
// or what Go knows of the module, or "devel".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
