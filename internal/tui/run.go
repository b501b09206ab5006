package tui

import (
	"context"
	"errors"
	"io"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
)

// Terminal is where a Model is shown.
type Terminal struct {
	In      io.Reader
	Out     io.Writer
	Environ []string // "TERM=...": what the terminal can do
	NoColor bool
}

// framesPerSecond bounds how often the screen is drawn: often enough that a key is
// answered at once, and no more, for each costs.
const framesPerSecond = 10

// Run shows a Model until the user quits or ctx ends, which is no error. The terminal
// is as it was before when Run returns. Signals are the caller's.
func Run(ctx context.Context, m *Model, t Terminal) error {
	opts := []tea.ProgramOption{
		tea.WithContext(ctx), tea.WithInput(t.In), tea.WithOutput(t.Out), tea.WithEnvironment(t.Environ),
		tea.WithoutSignalHandler(), tea.WithFPS(framesPerSecond),
	}
	if t.NoColor {
		opts = append(opts, tea.WithColorProfile(colorprofile.ASCII))
	}
	_, err := tea.NewProgram(m, opts...).Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil
	}
	return err
}
