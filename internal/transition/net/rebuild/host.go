package rebuild

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
)

// ReadHost reads a file that SaveHost has written. Bad input is of type *net.Faults, or of kind fail.Invalid.
func ReadHost(path string) (*net.Host, error) {
	text, err := slurp(path)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read what a host has: %w", err)
	}
	return net.ParseHost(path, text)
}

// SaveHost writes what a host has into a file.
func SaveHost(h *net.Host, out string) error {
	if err := dump(h, out); err != nil {
		return fmt.Errorf("write what the host has: %w", err)
	}
	return nil
}

// HostText is a difference between a document and a host in a line.
func HostText(d net.Difference) string {
	if d.Field == "object" {
		if d.New == nil {
			return fmt.Sprintf("%s %s: no interface of the host is its", d.Kind, d.ID)
		}
		return fmt.Sprintf("%s %s: an interface of the host is its, and the document does not have it", d.Kind, d.ID)
	}
	return fmt.Sprintf("%s %s: %s: the document has %s, the host %s", d.Kind, d.ID, d.Field, shown(d.Old), shown(d.New))
}

// shown is a value on a line that may end between its parts.
func shown(v json.RawMessage) string {
	if v == nil {
		return "nothing"
	}
	var b bytes.Buffer
	if err := json.Indent(&b, v, "", ""); err != nil { // it is no JSON
		return string(v)
	}
	return strings.NewReplacer("[\n", "[", "\n]", "]", "{\n", "{", "\n}", "}", "\n", " ").Replace(b.String())
}

func dump(v any, out string) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(out, append(text, '\n'), 0o600)
}
