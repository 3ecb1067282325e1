//go:build crashpoints

package agent

// OnCrashPoint is called, where a test sets it, whenever the agent of a host
// comes by a crash point, from each of the agent's goroutines. It may end the
// process or the goroutine, or take its time.
var OnCrashPoint func(host string, number int)

func (a *Agent) crash(at crashPoint) {
	if OnCrashPoint != nil {
		OnCrashPoint(a.Host, int(at))
	}
}
