package database

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/testbed/try"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	try.Must(t, os.WriteFile(file, []byte(text), 0o600))
}

func TestList(t *testing.T) {
	opt := t.TempDir()
	if list, err := List(opt); list != nil || err != nil {
		t.Errorf("nothing is installed: %v, %v", list, err)
	}
	at := func(name string) string { return filepath.Join(opt, name) }
	for _, name := range []string{"a", "b", "c"} {
		write(t, at(name+"/action/appctl.sh"), "")
	}
	write(t, at("no/versions.yml"), "Version: 1\n") // nothing that is upgraded by such packages
	write(t, at("a/versions.yml"), "Name:  Product\nSYS:\n  Name: E\n  Version: 24.12.B010\n")
	write(t, at("a/config/deploy_param.json"), `{"node_id": "1", "cms_ip": "10.0.0.1;10.0.0.2;10.0.0.3", "deploy_mode": "dss"}`)
	write(t, at("b/versions.yml"), "Version: '2.0.0.B086'\n")
	write(t, at("b/config/deploy_param.json"), `{"node_id": 0, "cms_ip": "10.0.0.1", "deploy_policy": "ModeB"}`)
	write(t, at("c/versions.yml"), "Product: none\n")
	write(t, at("c/config/deploy_param.json"), `{"node_id": "x", "cms_ip": "10.0.0.1"}`)
	list, err := List(opt)
	if want := []Engine{
		{Dir: at("a"), Version: "24.12.B010", Node: 1, Nodes: 3, Deploy: "dss"},
		{Dir: at("b"), Version: "2.0.0.B086", Node: 0, Nodes: 1, Deploy: "dbstor"},
		{Dir: at("c"), Node: -1},
	}; !reflect.DeepEqual(list, want) {
		t.Errorf("got %+v", list)
	}
	for _, want := range []string{"c/versions.yml has no line Version", "c/config/deploy_param.json: "} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "/a/") || strings.Contains(err.Error(), "/b/") {
			t.Errorf("want %q: %v", want, err)
		}
	}
	write(t, at("c/config/deploy_param.json"), `{"cms_ip": "10.0.0.1"}`)
	if e, err := Read(at("c")); e.Node != -1 || err == nil || !strings.Contains(err.Error(), "want node_id") {
		t.Errorf("got %+v, %v", e, err)
	}
}
