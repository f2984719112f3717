// Package database has what several tools need that have to do with databases: what a clustered
// engine of the appctl layout says of itself on this host (Engine), and which rows of two servers,
// one of which is written to, differ for good (Stay).
package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Files below the directory of an engine.
const (
	Script   = "action/appctl.sh"
	Versions = "versions.yml"
	params   = "config/deploy_param.json"
)

// maxFile is the most that is read of a file, bytes.
const maxFile = 64 << 10

// Engine is what the files of an engine say.
type Engine struct {
	Dir     string // where it is installed, such as /opt/cantian
	Version string // of versions.yml; "": it could not be read
	Node    int    // number of this host in the engine's cluster, from 0 on; -1: could not be read
	Nodes   int    // how many the cluster has; 0: could not be read
	Deploy  string // where its data is: file, dss, dbstor or combined
}

// List returns the engines below a directory such as /opt, by their directories. One of
// which a file can not be read is there with what could be, and the error says why.
func List(below string) ([]Engine, error) {
	scripts, err := filepath.Glob(filepath.Join(below, "*", Script))
	if err != nil {
		return nil, fmt.Errorf("look for engines in %s: %w", below, err)
	}
	slices.Sort(scripts)
	var out []Engine
	var errs []error
	for _, s := range scripts {
		e, err := Read(strings.TrimSuffix(s, "/"+Script))
		out, errs = append(out, e), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// Read reads one engine.
func Read(dir string) (Engine, error) {
	e := Engine{Dir: dir, Node: -1}
	var verr error
	e.Version, verr = Version(dir)
	text, err := read(filepath.Join(dir, params))
	if err == nil {
		err = deployed(text, &e)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", filepath.Join(dir, params), err)
	}
	return e, errors.Join(verr, err)
}

// Version returns the installed version: the package's scripts replace versions.yml when
// everything else of an upgrade or rollback is done.
func Version(dir string) (string, error) {
	text, err := read(filepath.Join(dir, Versions))
	if err != nil {
		return "", fmt.Errorf("read the version of the engine: %w", err)
	}
	if v := VersionIn(text); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("read the version of the engine: %s has no line Version: VERSION", filepath.Join(dir, Versions))
}

var versionLine = regexp.MustCompile(`(?m)^\s*["']?[Vv]ersion["']?\s*[:=]\s*["']?([0-9A-Za-z][0-9A-Za-z.+~:_-]*)`)

// VersionIn returns what the first line Version: VERSION of a text says, such as that of
// versions.yml; "" when there is none.
func VersionIn(text []byte) string {
	if m := versionLine.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return ""
}

// deployed reads the parameters of the deployment as get_config_info.py of the package does.
func deployed(text []byte, e *Engine) error {
	var p struct {
		Node   *number `json:"node_id"`
		Nodes  string  `json:"cms_ip"` // their addresses, with ; between
		Mode   string  `json:"deploy_mode"`
		Policy string  `json:"deploy_policy"`
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.Node == nil || *p.Node < 0 || p.Nodes == "" {
		return errors.New("want node_id, a number from 0 on, and cms_ip, the addresses of all nodes")
	}
	e.Node, e.Nodes, e.Deploy = int(*p.Node), strings.Count(p.Nodes, ";")+1, p.Mode
	switch {
	case p.Mode != "":
	case p.Policy == "ModeB" || p.Policy == "ModeC":
		e.Deploy = "dbstor"
	default:
		e.Deploy = "file"
	}
	return nil
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// number takes 0 and "0" alike: the files have both.
type number int

func (n *number) UnmarshalJSON(text []byte) error {
	return json.Unmarshal([]byte(strings.Trim(string(text), `"`)), (*int)(n))
}
