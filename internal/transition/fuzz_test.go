package transition

import (
	"slices"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, faults := Parse(text)
		if len(faults) > 0 {
			return
		}
		p := Build(file)
		steps, err := p.JobSteps()
		if err != nil || len(steps) == 0 {
			t.Fatalf("a file without faults: %v, %d steps", err, len(steps))
		}
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return len(s.Run) == 0 || s.Host == "" }) {
			t.Fatal("a step without a command or a host")
		}
	})
}
