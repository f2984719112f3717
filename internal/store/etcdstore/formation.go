package etcdstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/lib/durable"
	"holdfast/internal/store"
)

// Formation says, beside a member's data, of which store they are. A pair without a
// third voter has it (package arbiter); no other member has one. It takes its place
// together with the data that it is about.
type Formation struct {
	Gen       uint64 `json:"generation"`
	From      uint64 `json:"from"` // the generation that it was formed from; 0: it is the first
	Role      string `json:"role"` // as package arbiter's, in lower case
	WasActive bool   `json:"held"` // who formed it had the group
}

const formationFile = "formation.json"

// ReadFormation reads it. found is false where there is none; with data, but without a
// Formation, the directory is an error: of which store they are is not known.
func ReadFormation(dir string) (f Formation, found bool, err error) {
	file := filepath.Join(dir, formationFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, merr := os.Stat(filepath.Join(dir, "member")); !errors.Is(merr, fs.ErrNotExist) {
			return f, false, fmt.Errorf("%s has data of a member, and no %s that says of which store: %w", dir, formationFile, store.ErrDefinite)
		}
		return f, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		return f, false, fmt.Errorf("read of which store the data are: %s: %w", file, err)
	}
	return f, true, nil
}

// SaveFormation writes it, on disk before it returns. The directory is made when absent.
func SaveFormation(dir string, f Formation) error {
	if err := durable.MakeDir(dir); err != nil {
		return fmt.Errorf("save of which store the data are: %w", err)
	}
	if err := writeJSON(filepath.Join(dir, formationFile), f); err != nil {
		return fmt.Errorf("save of which store the data are: %w", err)
	}
	return nil
}

const asideName = ".given-up-"

// PutAside moves the data of a member that is stopped aside, in one step, and says where
// to. Of what was put aside so before nothing is kept.
func PutAside(dir string) (to string, err error) {
	release, err := claim(dir)
	if err != nil {
		return "", fmt.Errorf("put the data aside: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	to = dir + asideName + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := durable.Rename(dir, to); err != nil {
		return "", fmt.Errorf("put the data aside: %w", err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return to, fmt.Errorf("remove what was put aside before: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, filepath.Base(dir)+asideName) && name != filepath.Base(to) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(dir), name)))
		}
	}
	return to, err
}
