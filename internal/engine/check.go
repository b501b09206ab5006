package engine

// Check is one thing that must hold, or is good to know, before an engine can
// trace.
type Check struct {
	Name   string      `json:"check"`
	Status CheckStatus `json:"status"`
	Detail string      `json:"detail"`         // what was found
	Hint   string      `json:"hint,omitempty"` // what to do about it; "" when nothing need be done
}

// CheckStatus is the outcome of a Check.
type CheckStatus string

// The outcomes.
const (
	CheckOK   CheckStatus = "ok"
	CheckWarn CheckStatus = "warn" // works, but worse than it could
	CheckFail CheckStatus = "fail" // tracing does not work
)
