package burst

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// renderOverflow writes what a plan says about waiting jobs, and what of the
// memory it changes.
func renderOverflow(now time.Time, before Memory, p Plan) string {
	var b strings.Builder
	for _, v := range p.Verdicts {
		fmt.Fprintf(&b, "group %s", v.Group)
		if len(v.Released) > 0 {
			fmt.Fprintf(&b, " releases %s to %s", strings.Join(v.Released, ","), v.Nodearray)
		}
		fmt.Fprintf(&b, " holds %d cost %s\n\t%s\n", v.Held, v.Cost, v.Reason)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning\n\t%s\n", w.Reason)
	}
	for _, r := range p.Withheld {
		fmt.Fprintf(&b, "withheld\n\t%s\n", r)
	}
	after := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%+gs", t.Sub(now).Seconds())
	}
	back := func(j CloudJob) string {
		switch {
		case j.ArrayBack:
			return " back=array"
		case !j.TakenBackAt.IsZero():
			return " back=job"
		}
		return ""
	}
	for _, j := range p.Memory.Jobs {
		if slices.ContainsFunc(before.Jobs, func(o CloudJob) bool {
			o.Listed, o.ListedIn = j.Listed, j.ListedIn // TestAdvance tells when a job is
			return fmt.Sprint(o) == fmt.Sprint(j)
		}) {
			continue
		}
		fmt.Fprintf(&b, "remember job %s %s nodes=%d committed=%s at=%s started=%s revoked=%s tried=%v%s\n",
			j.ID, j.Nodearray, j.Nodes, j.Committed, after(j.CommittedAt), after(j.StartedAt), after(j.RevokedAt), j.Tried, back(j))
	}
	for _, j := range before.Jobs {
		if !slices.ContainsFunc(p.Memory.Jobs, func(n CloudJob) bool { return n.ID == j.ID }) {
			fmt.Fprintf(&b, "forget job %s\n", j.ID)
		}
	}
	for _, x := range p.Memory.Unseen {
		if !slices.Contains(before.Unseen, x) {
			fmt.Fprintf(&b, "remember unseen %s %s at=%s\n", x.ID, x.Nodearray, after(x.At))
		}
	}
	for _, x := range before.Unseen {
		if !slices.ContainsFunc(p.Memory.Unseen, func(n UnseenJob) bool { return n.ID == x.ID }) {
			fmt.Fprintf(&b, "forget unseen %s\n", x.ID)
		}
	}
	for _, x := range p.Memory.Breakers {
		if !slices.Contains(before.Breakers, x) {
			fmt.Fprintf(&b, "remember breaker %s failures=%d until=%s\n", x.Nodearray, x.Failures, after(x.OpenUntil))
		}
	}
	for _, x := range before.Breakers {
		if !slices.ContainsFunc(p.Memory.Breakers, func(n Breaker) bool { return n.Nodearray == x.Nodearray }) {
			fmt.Fprintf(&b, "forget breaker %s\n", x.Nodearray)
		}
	}
	for _, x := range p.Memory.Steps {
		if !slices.Contains(before.Steps, x) {
			fmt.Fprintf(&b, "remember step %s up=%d down=%d\n", x.Nodearray, x.Up, x.Down)
		}
	}
	if !slices.Equal(before.Gated, p.Memory.Gated) {
		fmt.Fprintf(&b, "remember gated %s\n", cmp.Or(strings.Join(p.Memory.Gated, ","), "-"))
	}
	return b.String()
}
