package config

import (
	"fmt"
	"path"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// settings is how configuration is read.
var settings = strictyaml.Style{Settings: true}

// document parses data into v, a pointer to a struct with json tags, and
// records what is wrong. It reports whether v was filled, be it in part. strict
// refuses a missing comma also where the source tool's sample has none.
func (c *checker) document(data []byte, v any, strict bool) bool {
	if len(data) > maxFile {
		c.found = append(c.found, strictyaml.Fault{Path: strictyaml.Whole, Value: fmt.Sprintf("%d bytes", len(data)),
			Want: fmt.Sprintf("at most %d bytes", maxFile)})
		return false
	}
	root, fault := c.parse(data, strict)
	if fault == nil && root.Kind != strictyaml.Object {
		fault = &strictyaml.Fault{Place: root.Place, Path: strictyaml.Whole, Value: root.Shown(),
			Want: "want an object with the fields of the configuration"}
	}
	if fault != nil {
		c.found = append(c.found, *fault)
		return false
	}
	c.doc = settings.DecodeNode(root, v)
	c.found = append(c.found, c.doc.Faults...)
	return true
}

// parse reads the text by the file's suffix: .yaml and .yml are YAML, all else JSON.
func (c *checker) parse(data []byte, strict bool) (*strictyaml.Node, *strictyaml.Fault) {
	if ext := strings.ToLower(path.Ext(c.file)); ext == ".yaml" || ext == ".yml" {
		return strictyaml.Parse(data)
	}
	root, missing, fault := parseJSON(data)
	if fault != nil {
		return nil, fault
	}
	for _, at := range missing {
		if strict {
			c.found = append(c.found, strictyaml.Fault{Place: at, Want: "want ',' or '}' after a value"})
		} else {
			c.warnings = append(c.warnings, Warning{File: c.file, Place: at,
				Text: "a comma is missing after this value; accepted because the line ends with a comment"})
		}
	}
	return root, nil
}
