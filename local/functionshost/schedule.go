package functionshost

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// schedule is an NCRONTAB expression in UTC, the only zone of Functions on
// Linux.
type schedule struct {
	days     cron.Schedule // everything but the day of week
	weekdays cron.Schedule // everything but the day of month
}

// parseSchedule reads a six-field NCRONTAB expression, seconds first, or a
// five-field one with seconds 0.
func parseSchedule(text string) (schedule, error) {
	fields := strings.Fields(text)
	if len(fields) == 5 {
		fields = append([]string{"0"}, fields...)
	}
	if len(fields) == 1 && strings.Contains(text, ":") {
		return schedule{}, fmt.Errorf("%q is a time span, which only dedicated plans accept", text)
	}
	if len(fields) != 6 {
		return schedule{}, fmt.Errorf("%q has %d fields, want 6 (seconds first) or 5", text, len(fields))
	}
	if strings.ContainsAny(text, "?=@") {
		return schedule{}, fmt.Errorf("%q: NCRONTAB knows no ?, @ or time zone", text)
	}
	parser := cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parse := func(dom, dow string) (cron.Schedule, error) {
		return parser.Parse(strings.Join([]string{fields[0], fields[1], fields[2], dom, fields[4], dow}, " "))
	}
	days, err := parse(fields[3], "*")
	if err != nil {
		return schedule{}, fmt.Errorf("%q: %w", text, err)
	}
	weekdays, err := parse("*", fields[5])
	if err != nil {
		return schedule{}, fmt.Errorf("%q: %w", text, err)
	}
	s := schedule{days: days, weekdays: weekdays}
	if s.next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return schedule{}, fmt.Errorf("%q never occurs", text)
	}
	return s, nil
}

// next is the first occurrence after t, or the zero time if there is none
// within five years. NCRONTAB wants both the day of month and the day of week to
// match, where Unix cron is content with one; so the two halves leapfrog until
// they agree.
func (s schedule) next(t time.Time) time.Time {
	t = t.UTC()
	a, b := s.days.Next(t), s.weekdays.Next(t)
	for !a.IsZero() && !b.IsZero() {
		switch {
		case a.Equal(b):
			return a
		case a.Sub(t) > 5*365*24*time.Hour:
			return time.Time{}
		case a.Before(b):
			a = s.days.Next(b.Add(-time.Second))
		default:
			b = s.weekdays.Next(a.Add(-time.Second))
		}
	}
	return time.Time{}
}

// tooFast reports whether the schedule runs more than once a minute, which
// switches its monitor off (TimerTriggerAttributeBindingProvider).
func (s schedule) tooFast(now time.Time) bool {
	first := s.next(now)
	second := s.next(first)
	return second.Sub(first) < time.Minute
}
