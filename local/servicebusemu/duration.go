package servicebusemu

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// isoDuration is what Azure writes: days, hours, minutes and seconds. Years and
// months have no fixed length and are refused.
var isoDuration = regexp.MustCompile(`^P(?:(\d{1,8})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8}(?:\.\d{1,7})?)S)?)?$`)

// longestDuration is about 290 years; the service's own maximum means "none" and
// is longer.
const longestDuration = time.Duration(1<<63 - 1)

// parseISODuration reads an ISO 8601 duration. One that is too long for a
// time.Duration is cut down to the longest.
func parseISODuration(s string) (time.Duration, error) {
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || m[1]+m[2]+m[3]+m[4] == "" || s[len(s)-1] == 'T' {
		return 0, fmt.Errorf("%q is not an ISO 8601 duration", s)
	}
	seconds := 0.0
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not an ISO 8601 duration: %w", s, err)
		}
		seconds += n * unit
	}
	if seconds >= longestDuration.Seconds() {
		return longestDuration, nil
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond), nil
}
