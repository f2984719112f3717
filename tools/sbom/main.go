// Command sbom writes the bill of materials of a Go program as CycloneDX 1.6 JSON: the
// modules that the linker recorded in it, and the standard library.
//
//	sbom PROGRAM VERSION
//
// Its metadata have the time of SOURCE_DATE_EPOCH, if that is set: one program gives one
// bill.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(2)
	}
}

type bill struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Version    int         `json:"version"` // of the bill
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
	Depends    []depends   `json:"dependencies"`
}

type metadata struct {
	Time      string    `json:"timestamp,omitempty"` // RFC 3339
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	URL        string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type depends struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

func run(args []string, epoch string, w io.Writer) error {
	if len(args) != 2 {
		return errors.New("want a program and its version")
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read what %s was built of: %w", args[0], err)
	}
	b, err := billOf(info, args[1], epoch)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(b)
}

// billOf makes the bill; epoch is empty or a Unix time in seconds.
func billOf(info *buildinfo.BuildInfo, version, epoch string) (bill, error) {
	main := module("application", info.Main.Path, version)
	for _, s := range info.Settings {
		if !strings.HasPrefix(s.Key, "vcs") {
			main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	b := bill{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{Component: main}}
	if epoch != "" {
		s, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return bill{}, fmt.Errorf("SOURCE_DATE_EPOCH: value %q: want seconds since 1970", epoch)
		}
		b.Metadata.Time = time.Unix(s, 0).UTC().Format(time.RFC3339)
	}
	b.Components = append(b.Components, module("library", "std", strings.TrimPrefix(info.GoVersion, "go")))
	for _, m := range info.Deps {
		b.Components = append(b.Components, library(m))
	}
	on := depends{Ref: main.Ref}
	for _, c := range b.Components {
		on.On = append(on.On, c.Ref)
	}
	b.Depends = []depends{on}
	return b, nil
}

// library is a module as it was linked.
func library(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := module("library", m.Path, m.Version)
	if m.Sum != "" {
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}

func module(kind, path, version string) component {
	at := "pkg:golang/" + path + "@" + url.QueryEscape(version)
	return component{Type: kind, Ref: at, Name: path, Version: version, URL: at}
}
