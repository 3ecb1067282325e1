package policy

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// Bounds of money. With them no sum over 20,000 nodes for a year leaves 63
// bits.
const (
	unit     burst.Money = 1_000_000
	maxPrice             = 1_000 * unit         // of one node-hour
	maxMoney             = 1_000_000_000 * unit // of a budget or a job
)

const moneyPattern = `^[0-9]{1,10}(\.[0-9]{1,6})?$`

var moneyForm = regexp.MustCompile(moneyPattern)

// parseMoney reads decimal text such as 0.384, exact to a millionth.
func parseMoney(text string) (burst.Money, error) {
	if !moneyForm.MatchString(text) {
		return 0, fmt.Errorf("not a decimal number with at most six places")
	}
	whole, part, _ := strings.Cut(text, ".")
	digits := whole + (part + "000000")[:6]
	amount, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || amount > math.MaxInt64/2 {
		return 0, fmt.Errorf("too large")
	}
	return burst.Money(amount), nil
}

// formatMoney writes an amount as people do: 0.384, 100.
func formatMoney(m burst.Money) string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	text := fmt.Sprintf("%s%d.%06d", sign, m/unit, m%unit)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
