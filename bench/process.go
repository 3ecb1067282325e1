package main

import (
	"fmt"
	"os"
	"time"
)

// cost is what one run of a program took.
type cost struct {
	wall time.Duration // from before the fork until it is reaped
	cpu  time.Duration // user and system; hardly changes when others are busy
}

// costs hold a median for each run, in milliseconds.
type costs struct{ wall, cpu series }

func (c *costs) add(samples []cost) {
	var wall, cpu []float64
	for _, s := range samples {
		wall, cpu = append(wall, milliseconds(s.wall)), append(cpu, milliseconds(s.cpu))
	}
	c.wall, c.cpu = append(c.wall, percentile(wall, 50)), append(c.cpu, percentile(cpu, 50))
}

// repeated sums what so many runs cost.
func repeated(times int, run func() (cost, error)) (cost, error) {
	var sum cost
	for range times {
		c, err := run()
		if err != nil {
			return sum, err
		}
		sum.wall, sum.cpu = sum.wall+c.wall, sum.cpu+c.cpu
	}
	return sum, nil
}

// timed runs a program to its end.
func timed(path string, argv, env []string) (cost, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return cost{}, err
	}
	defer null.Close()
	began := time.Now()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Env: env, Files: []*os.File{null, null, null}})
	if err != nil {
		return cost{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	state, err := process.Wait()
	took := time.Since(began)
	if err != nil || !state.Success() {
		return cost{}, fmt.Errorf("run %s: %v: %w", argv[0], state, err)
	}
	return cost{wall: took, cpu: state.UserTime() + state.SystemTime()}, nil
}
