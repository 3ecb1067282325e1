package functionshost

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

var timeSpanForm = regexp.MustCompile(`^(-)?(?:(\d{1,5})\.)?(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,7}))?)?$`)

// parseTimeSpan reads .NET's constant TimeSpan form, [-][d.]hh:mm[:ss[.fffffff]].
func parseTimeSpan(text string) (time.Duration, error) {
	m := timeSpanForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no time span (want hh:mm:ss)", text)
	}
	number := func(s string) time.Duration {
		n, _ := strconv.Atoi(s) // digits by the expression above; empty is 0
		return time.Duration(n)
	}
	hours, minutes, seconds := number(m[3]), number(m[4]), number(m[5])
	if hours > 23 || minutes > 59 || seconds > 59 {
		return 0, fmt.Errorf("%q is no time span (hours to 23, minutes and seconds to 59)", text)
	}
	ticks := number((m[6] + "0000000")[:7])
	d := number(m[2])*24*time.Hour + hours*time.Hour + minutes*time.Minute + seconds*time.Second + ticks*100*time.Nanosecond
	if m[1] != "" {
		d = -d
	}
	return d, nil
}
