// Package testenv helps the other packages' tests: it compiles the programs of
// testdata/testprog with any supported Go toolchain in any build mode, runs
// them, says when this machine cannot run a test, and compares golden files.
//
// It is imported by tests only. Compiled programs are kept in a cache shared by
// every test process of the machine (see [BuildTarget]); everything is safe for
// concurrent use by parallel tests and parallel test binaries.
//
// A test that cannot run here is skipped with the reason, except when the
// environment has CI=true: then it fails, so that coverage cannot vanish
// quietly where it must exist.
package testenv
