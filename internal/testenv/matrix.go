package testenv

// Matrix is every supported toolchain in every build mode that live tests
// run: plain, stripped and trimmed, PIE, cgo, and race.
func Matrix() []Build {
	var builds []Build
	for _, v := range latest {
		builds = append(builds,
			Build{Go: v},
			Build{Go: v, Stripped: true},
			Build{Go: v, PIE: true},
			Build{Go: v, Cgo: true},
			Build{Go: v, Race: true})
	}
	return builds
}

// CrossSection is the part of [Matrix] that every test run can afford: each
// toolchain at least once, each mode at least once, and each mode on both
// sides of the runtime's large changes (1.21's prologues, 1.23's coroutines,
// 1.24's early goids, 1.26's system calls).
func CrossSection() []Build {
	return []Build{
		{Go: "1.18", Stripped: true},
		{Go: "1.19", Cgo: true},
		{Go: "1.20", PIE: true},
		{Go: "1.21", Race: true},
		{Go: "1.22"},
		{Go: "1.23", Stripped: true},
		{Go: "1.24", Cgo: true},
		{Go: "1.25", PIE: true},
		{Go: "1.26"},
		{Go: "1.26", Race: true},
		{Go: "1.27", Stripped: true},
		{Go: "1.27", Cgo: true},
	}
}
