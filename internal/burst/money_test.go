package burst

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// unit is one unit of the currency.
const unit Money = 1_000_000

func TestMoneyReads(t *testing.T) {
	for want, m := range map[string]Money{
		"0.00": 0, "12.50": 12_500_000, "0.38": 376_000, "-1.00": -unit, "0.01": 5_000, "-0.01": -5_001, "-0.37": -374_999,
		"1.00": 999_999, "9223372036854.78": math.MaxInt64, "-9223372036854.78": math.MinInt64, "0.10": 95_000,
	} {
		if got := m.String(); got != want {
			t.Errorf("%d reads %s, want %s", int64(m), got, want)
		}
	}
	if got := Money(4_999).String() + Money(-5_000).String(); got != "0.000.00" {
		t.Errorf("less than half a cent reads %s", got)
	}
}

func TestCost(t *testing.T) {
	for name, c := range map[string]struct {
		rate  Money
		nodes int
		d     time.Duration
		want  Money
	}{
		"a node-hour costs the rate":                    {3_600_000, 1, time.Hour, 3_600_000},
		"nodes and hours multiply":                      {376_000, 7, 90 * time.Minute, 3_948_000},
		"a begun millionth is paid":                     {1, 1, time.Nanosecond, 1},
		"a whole millionth is not rounded":              {3_600_000, 1, time.Millisecond, 1},
		"no time costs nothing":                         {unit, 5, 0, 0},
		"time that ran backwards costs nothing":         {unit, 5, -time.Hour, 0},
		"fewer than no nodes cost nothing":              {unit, -5, time.Hour, 0},
		"a price below nothing costs nothing":           {-unit, 5, time.Hour, 0},
		"the largest amount is not passed":              {math.MaxInt64, 2, time.Hour, math.MaxInt64},
		"the largest amount can be had":                 {math.MaxInt64, 1, time.Hour, math.MaxInt64},
		"all at its largest is the largest":             {math.MaxInt64, math.MaxInt, math.MaxInt64, math.MaxInt64},
		"a huge product of a short time is still exact": {math.MaxInt64, 3600, time.Second, math.MaxInt64},
		"a huge rate for an instant is still exact":     {math.MaxInt64, 1_000, time.Nanosecond, 2_562_047_789},
	} {
		t.Run(name, func(t *testing.T) {
			if got := cost(c.rate, c.nodes, c.d); got != c.want {
				t.Errorf("cost(%d, %d, %s) = %d, want %d", c.rate, c.nodes, c.d, got, c.want)
			}
		})
	}
}

// The cost agrees with arithmetic that has no bounds.
func TestCostIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, nodes, d := rapid.Int64Min(0).Draw(t, "rate"), rapid.IntMin(0).Draw(t, "nodes"), rapid.Int64Min(0).Draw(t, "d")
		want := new(big.Int).Mul(big.NewInt(rate), big.NewInt(int64(nodes)))
		want.Mul(want, big.NewInt(d)).Add(want, big.NewInt(int64(time.Hour)-1)).Div(want, big.NewInt(int64(time.Hour)))
		if !want.IsInt64() {
			want.SetInt64(math.MaxInt64)
		}
		if got := cost(Money(rate), nodes, time.Duration(d)); int64(got) != want.Int64() {
			t.Errorf("%d, want %s", got, want)
		}
	})
}

func TestAnUnlimitedJobCommitsThirtyDays(t *testing.T) {
	for _, limit := range []time.Duration{0, -time.Hour, 720 * time.Hour} {
		if got := commitment(unit, 2, limit); got != 1440*unit {
			t.Errorf("a limit of %s commits %s", limit, got)
		}
	}
	if got := (Memory{}).expectedRun("a", "u", 0); got != unlimitedRun {
		t.Errorf("an unlimited job is expected to run %s", got)
	}
}

// Amounts never wrap around.
func TestAmountsStopAtTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		sum := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		switch got := Money(a).plus(Money(b)); {
		case sum.IsInt64() && int64(got) != sum.Int64(), !sum.IsInt64() && got != math.MaxInt64 && got != math.MinInt64:
			t.Errorf("%d + %d = %d", a, b, got)
		}
		if got := Money(a).minus(Money(b)); got < 0 && a >= 0 {
			t.Errorf("%d - %d = %d", a, b, got)
		}
		nodes := rapid.Int().Draw(t, "nodes")
		if got := nodeTime(nodes, time.Duration(a)); got < 0 {
			t.Errorf("%d nodes for %d are %d", nodes, a, got)
		}
	})
}
