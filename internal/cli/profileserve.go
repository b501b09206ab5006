package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
	"unicode"

	"github.com/google/pprof/driver"
	gprofile "github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"gopherscope/internal/pprof"
	"gopherscope/internal/profile"
)

// listen opens the address at which a profile will be served.
func listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, withHint(usagef("--http %q is not host:port", address), "--http localhost:0 takes a free port")
	}
	if host == "" { // as pprof does: to be seen from elsewhere one must say so
		host = "localhost"
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, withHint(fmt.Errorf("--http: %w", err), "--http localhost:0 takes a free port")
	}
	return ln, nil
}

// serveProfile shows a profile in pprof's web interface until ctx ends; if it has, until
// the user says so once more.
//
// The interface shows source files, which it reads by the names that are in the traced
// binary, with our rights: those of root, mostly. So its address has a secret in it. No
// other user of the machine can guess that, nor can a page in a browser.
func serveProfile(ctx context.Context, t *terminal, ln net.Listener, p *profile.Profile) error {
	ctx, stop := untilToldAgain(ctx)
	defer stop()
	secret := "/" + rand.Text()
	url := "http://" + ln.Addr().String() + secret + "/ui/"
	serve := func(args *driver.HTTPServerArgs) error {
		t.notef("profile at %s (Ctrl-C ends it)", url)
		openBrowser(url)
		return serveUntil(ctx, ln, profileHandler(secret, args.Handlers))
	}
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	flags := driverFlags{flag.NewFlagSet("pprof", flag.ContinueOnError), []string{
		"-http=" + net.JoinHostPort(host, port), "-no_browser", "-symbolize=none", "gopherscope",
	}}
	flags.set.SetOutput(io.Discard)
	err = driver.PProf(&driver.Options{
		Flagset: flags, Fetch: fetched{pprof.Samples(p)}, Obj: noObjects{}, UI: driverUI{t}, HTTPServer: serve,
	})
	if err != nil {
		return fmt.Errorf("show profile: %w", err)
	}
	return nil
}

// untilToldAgain is ctx, or when that has ended a context that a later signal ends: the
// first one ended the trace only. One that comes right after it is the same: see Main.
func untilToldAgain(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return context.WithCancel(ctx)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	again, cancel := context.WithCancel(context.WithoutCancel(ctx))
	began := time.Now()
	go func() {
		defer cancel()
		for {
			select {
			case <-again.Done():
				return
			case <-signals:
				if time.Since(began) >= doubled {
					return
				}
			}
		}
	}()
	return again, func() { signal.Stop(signals); cancel() }
}

// profileHandler serves the pages of the interface, by their paths, below the secret.
func profileHandler(secret string, pages map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(secret+"/ui/", http.StripPrefix(secret+"/ui", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Referrer-Policy", "no-referrer") // the address is a secret
		page.ServeHTTP(w, r)
	})))
	return mux
}

// leaveTime is how long requests may take when the server ends.
const leaveTime = time.Second

// serveUntil serves until ctx ends, which is no error.
func serveUntil(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
		defer cancel()
		if s.Shutdown(leave) != nil {
			_ = s.Close() // what still goes on is given up
		}
	})
	err := s.Serve(ln)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ended
	return nil
}

// openBrowser shows the page if there is a display. Not as root, as whom no browser should
// run. That it cannot be opened is no error: the address was printed.
func openBrowser(url string) {
	if os.Geteuid() == 0 || os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return
	}
	for _, browser := range []string{os.Getenv("BROWSER"), "xdg-open", "sensible-browser"} {
		if browser == "" {
			continue
		}
		cmd := exec.Command(browser, url)
		if cmd.Start() == nil {
			go func() { _ = cmd.Wait() }() // its end says nothing
			return
		}
	}
}

// fetched is a profile that is there already.
type fetched struct{ p *gprofile.Profile }

// Fetch implements driver.Fetcher. Without an address the driver saves no copy.
func (f fetched) Fetch(string, time.Duration, time.Duration) (*gprofile.Profile, string, error) {
	return f.p, "", nil
}

// errNoObjects is what there is instead of a disassembly: the frames have no addresses.
var errNoObjects = errors.New("a profile of a trace has lines and no addresses")

// noObjects keeps the driver from the traced binary: it would run objdump on it.
type noObjects struct{}

// Open implements driver.ObjTool.
func (noObjects) Open(string, uint64, uint64, uint64, string) (driver.ObjFile, error) {
	return nil, errNoObjects
}

// Disasm implements driver.ObjTool.
func (noObjects) Disasm(string, uint64, uint64, bool) ([]driver.Inst, error) {
	return nil, errNoObjects
}

// driverFlags gives the driver a command line of its own.
type driverFlags struct {
	set  *flag.FlagSet
	args []string
}

// Bool implements driver.FlagSet.
func (f driverFlags) Bool(name string, def bool, usage string) *bool {
	return f.set.Bool(name, def, usage)
}

// Int implements driver.FlagSet.
func (f driverFlags) Int(name string, def int, usage string) *int {
	return f.set.Int(name, def, usage)
}

// Float64 implements driver.FlagSet.
func (f driverFlags) Float64(name string, def float64, usage string) *float64 {
	return f.set.Float64(name, def, usage)
}

// String implements driver.FlagSet.
func (f driverFlags) String(name string, def string, usage string) *string {
	return f.set.String(name, def, usage)
}

// StringList implements driver.FlagSet. None is on the command line.
func (f driverFlags) StringList(string, string, string) *[]*string { return &[]*string{} }

// ExtraUsage implements driver.FlagSet.
func (f driverFlags) ExtraUsage() string { return "" }

// AddExtraUsage implements driver.FlagSet.
func (f driverFlags) AddExtraUsage(string) {}

// Parse implements driver.FlagSet.
func (f driverFlags) Parse(func()) []string {
	if f.set.Parse(f.args) != nil {
		return nil
	}
	return f.set.Args()
}

// driverUI passes on what the driver has to say.
type driverUI struct{ term *terminal }

// ReadLine implements driver.UI: nobody is asked anything.
func (driverUI) ReadLine(string) (string, error) { return "", io.EOF }

// Print implements driver.UI. It says where the driver thinks that it is.
func (driverUI) Print(...any) {}

// PrintErr implements driver.UI. A message can have names in it from the traced program.
func (u driverUI) PrintErr(args ...any) {
	text := strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) { // notef joins lines
			return '?'
		}
		return r
	}, strings.TrimSpace(fmt.Sprint(args...)))
	u.term.notef("pprof: %s", text)
}

// IsTerminal implements driver.UI.
func (driverUI) IsTerminal() bool { return false }

// WantBrowser implements driver.UI: openBrowser does it.
func (driverUI) WantBrowser() bool { return false }

// SetAutoComplete implements driver.UI.
func (driverUI) SetAutoComplete(func(string) string) {}
