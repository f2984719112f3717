package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

func TestBill(t *testing.T) {
	info := &buildinfo.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Path: "holdfast"},
		Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm64"}, {Key: "vcs.time", Value: "x"}},
		Deps: []*debug.Module{{Path: "a.org/b", Version: "v1.0.0+incompatible", Sum: "h1:x="},
			{Path: "a.org/c", Replace: &debug.Module{Path: "d.org/c", Version: "v2.0.0"}}},
	}
	b, err := billOf(info, "1.4.0~rc1", "1767366245")
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range b.Components {
		refs = append(refs, c.Ref)
	}
	if got := strings.Join(refs, " "); got != "pkg:golang/std@1.26.8 pkg:golang/a.org/b@v1.0.0%2Bincompatible pkg:golang/d.org/c@v2.0.0" {
		t.Errorf("components %s", got)
	}
	if m := b.Metadata; m.Time != "2026-01-02T15:04:05Z" || len(m.Component.Properties) != 1 ||
		m.Component.Properties[0] != (property{"go:build:GOARCH", "arm64"}) {
		t.Errorf("%+v", m)
	}
	if _, err := billOf(info, "1.4.0", "today"); err == nil || !strings.Contains(err.Error(), `"today"`) {
		t.Errorf("SOURCE_DATE_EPOCH: %v", err)
	}
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{os.Args[0], "1.4.0"}, "", &out); err != nil ||
		!strings.Contains(out.String(), `"bomFormat": "CycloneDX"`) || strings.Contains(out.String(), "timestamp") {
		t.Errorf("%v: %s", err, out.String())
	}
	for _, args := range [][]string{nil, {os.Args[0]}, {"main.go", "1.4.0"}, {"none", "1.4.0"}} {
		if err := run(args, "", &out); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}
