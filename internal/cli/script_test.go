package cli_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gopherscope": func() {
			os.Exit(cli.Main(os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScript runs the command line as a user would, with this test binary
// standing in for the program: help, and bad input that fails before anything
// privileged is tried.
func TestScript(t *testing.T) {
	recording, err := filepath.Abs("../recording/testdata/v1.0.gscope")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: testenv.Update(),
		Setup: func(e *testscript.Env) error { e.Setenv("RECORDING", recording); return nil },
	})
}

// TestLiveScript runs scripts that trace. They find Go programs to trace in the
// environment: see testdata/testprog.
func TestLiveScript(t *testing.T) {
	testenv.RequireBPF(t)
	programs := map[string]string{
		"PINGPONG": testenv.BuildTarget(t, "pingpong", testenv.Build{}),
		"IDLE":     testenv.BuildTarget(t, "idle", testenv.Build{}),
		"SPAWN":    testenv.BuildTarget(t, "spawn", testenv.Build{}),
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/live",
		UpdateScripts: testenv.Update(),
		Setup: func(e *testscript.Env) error {
			for name, path := range programs {
				e.Setenv(name, path)
			}
			return nil
		},
	})
}
