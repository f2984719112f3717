package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// ReadTold reads what a command has told with -o json into the type of the record. The
// names of durations end with their unit there.
func ReadTold(text []byte, v any) error {
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte(`_ns":`), []byte(`":`)), v); err != nil {
		return fmt.Errorf("read the JSON of a command: %w", err)
	}
	return nil
}
