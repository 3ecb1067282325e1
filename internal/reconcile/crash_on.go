//go:build crashpoints

package reconcile

// OnCrashPoint is called, where a test sets it, whenever a pass comes by a
// crash point. It may panic, which ends the pass, or take its time.
var OnCrashPoint func(number int)

func (p *pass) crash(at crashPoint) {
	if OnCrashPoint != nil {
		OnCrashPoint(int(at))
	}
}
