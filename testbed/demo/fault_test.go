package demo

import (
	"strings"
	"testing"
)

// TestHelpHasEachFault: it stands there as one text, so that it is translated as one.
func TestHelpHasEachFault(t *testing.T) {
	c := Command()
	for _, f := range Faults() {
		row := "\n  " + string(f) + strings.Repeat(" ", 13-len(f)) + f.About() + "\n"
		if !strings.Contains(c.Long, row) || !strings.Contains(c.Flags().Lookup("fault").Usage, string(f)) {
			t.Errorf("no %q in the help", row)
		}
		if err := f.check(); err != nil {
			t.Error(err)
		}
	}
	if err := Fault("fire").check(); err == nil || !strings.Contains(err.Error(), string(QuorumLoss)+" or none") {
		t.Error(err)
	}
}
