module testprog

// The oldest supported toolchain must build every program; a file that needs a
// newer one says so in a build tag.
go 1.18
