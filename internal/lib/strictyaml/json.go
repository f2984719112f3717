package strictyaml

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// FromJSON writes a JSON document as YAML, with its keys in their order. Decode reads from it what it reads from the document.
func FromJSON(data []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	y, err := fromJSON(d)
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return write(y)
}

// fromJSON reads the next value.
func fromJSON(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch x := token.(type) {
	case json.Delim:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		if x == '{' {
			y.Kind = yaml.MappingNode
		}
		for d.More() { // a key is a value before the one that it has
			part, err := fromJSON(d)
			if err != nil {
				return nil, err
			}
			y.Content = append(y.Content, part)
		}
		if len(y.Content) == 0 {
			y.Style = yaml.FlowStyle
		}
		_, err := d.Token()
		return y, err
	case string:
		return textNode(x), nil
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagNull, Value: "null"}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(token)}, nil // a number or a truth value, which YAML writes the same
}
