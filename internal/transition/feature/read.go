package feature

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Read reads what a run has written as JSON. Errors name the field.
func Read(text []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("it is no result of transition features: %w", err)
	}
	if len(r.Features) == 0 {
		return nil, errors.New("field features: it is empty or not there; want a result of transition features -o json")
	}
	seen := map[Name]bool{}
	for i, f := range r.Features {
		switch {
		case f.Name == "":
			return nil, fmt.Errorf("field features[%d].name: it is empty", i)
		case seen[f.Name]:
			return nil, fmt.Errorf("field features[%d].name: %q is there twice", i, f.Name)
		case f.Result != OK && f.Result != Failed && f.Result != Skipped:
			return nil, fmt.Errorf("field features[%d].result: %q: want %s, %s or %s", i, f.Result, OK, Failed, Skipped)
		}
		seen[f.Name] = true
	}
	return &r, nil
}
