package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadReadsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.json")
	if _, _, err := Load(file, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte(fixture(t, "base.json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if cl, _, err := Load(file, Options{}); err != nil || cl.CPU != 4 {
		t.Errorf("valid file: %v, CPU %d", err, cl.CPU)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte(" "), maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	var faults Faults
	if _, _, err := Load(file, Options{}); !errors.As(err, &faults) || len(faults) != 1 || faults[0].File != file {
		t.Errorf("large file: %v, want Faults with the file's name", err)
	}
}

func TestTheExampleOfTheDocumentationIsValid(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "```json\n")
	text, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("docs/configuration.md has no JSON example")
	}
	_, faults, _ := Parse("configuration.md", []byte(text), Options{})
	wantFaults(t, faults)
	for f := range reflect.TypeFor[Cluster]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(string(data), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not name the field %s", name)
		}
	}
}
