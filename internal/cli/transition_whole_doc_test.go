package cli

import (
	"os"
	"strings"
	"testing"
)

// TestTheFileOfTheDocumentIsPlanned: the example of docs/transition.md is a file.
func TestTheFileOfTheDocumentIsPlanned(t *testing.T) {
	doc, err := os.ReadFile("../../docs/transition.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	file, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/transition.md has no file")
	}
	s := commandLine(t, file, "transition", "plan", "-")
	if s.code != 0 || !strings.Contains(s.out, "hosts/upgrade on cp1\n     holdfast upgrade run --bundle /srv/compute-26.2.hfb --yes --wait --join --keep-guests") ||
		!strings.Contains(s.out, "asks before: look whether the new platform does what it should; then endpoints") {
		t.Errorf("%d: %s%s", s.code, s.out, s.err)
	}
}
