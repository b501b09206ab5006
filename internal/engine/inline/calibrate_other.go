//go:build !amd64

package inline

// prices are what code of ours costs on this machine, in ns.
type prices struct{ hit, stack, frame float64 }

// calibrate knows nothing here: nothing is ever attached.
func calibrate() (prices, error) { return prices{}, nil }
