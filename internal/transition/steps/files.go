package steps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/hostconf"
)

// Files has the configuration files of this host: it compares them with those that the host
// is to have, keeps these, and carries out steps of the kind hostconf.KindFiles. What is
// written was kept before by Compare, so that neither a plan nor the store has the contents.
type Files struct {
	Dir string // of it on this host, absolute; only root may read what is there
}

var _ engine.Executor = (*Files)(nil)

// keepSets and keepBackups are how many of the last ones stay.
const (
	keepSets    = 16
	keepBackups = 20
)

// file is a file of this host, or how it is to be.
type file struct {
	Path    string `json:"path"`
	There   bool   `json:"there"`
	Mode    uint32 `json:"mode,omitempty"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	Content []byte `json:"content,omitempty"`
}

// state tells two files apart; "": there is none.
func (f *file) state() string {
	if !f.There {
		return ""
	}
	sum := sha256.Sum256(f.Content)
	return hex.EncodeToString(sum[:]) + " " + f.rights()
}

// rights are mode and owner as people read them; "": there is no file.
func (f *file) rights() string {
	if !f.There {
		return ""
	}
	return fmt.Sprintf("%04o %d:%d", f.Mode, f.UID, f.GID)
}

// backup is what a job has found where it wrote, in the order of its files.
type backup struct {
	Title string   `json:"title"`
	Set   string   `json:"set"`
	Old   []file   `json:"old"`
	New   []string `json:"new"` // states of the files as they are written
}

// look reads a file of this host. Links and all else that is no plain file are refused: what
// is written takes the name's place.
func look(path string) (file, error) {
	out := file{Path: path}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info, err := os.Stat(filepath.Dir(path))
		if err == nil && !info.IsDir() {
			err = errors.New("it is no directory")
		}
		if err != nil {
			return out, fmt.Errorf("the directory of %s: %w", path, err)
		}
		return out, nil
	case errors.Is(err, unix.ELOOP):
		return out, fmt.Errorf("%s is a symbolic link: want the path of the file itself", path)
	case err != nil:
		return out, err // names the file
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return out, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return out, fmt.Errorf("%s is no plain file: want the path of one", path)
	}
	if info.Size() > hostconf.MaxFile {
		return out, fmt.Errorf("%s has %d bytes: want at most %d", path, info.Size(), hostconf.MaxFile)
	}
	out.There, out.Mode, out.UID, out.GID = true, uint32(info.Mode().Perm()), int(st.Uid), int(st.Gid)
	if out.Content, err = io.ReadAll(io.LimitReader(f, hostconf.MaxFile+1)); err != nil {
		return out, fmt.Errorf("read %s: %w", path, err)
	}
	if len(out.Content) > hostconf.MaxFile {
		return out, fmt.Errorf("%s grows while it is read", path)
	}
	return out, nil
}

// unknownHere says in words of this program that this host does not know a user or a group.
func unknownHere(err error) error {
	var u user.UnknownUserError
	var g user.UnknownGroupError
	switch {
	case errors.As(err, &u):
		return fmt.Errorf("this host has no user %s", string(u))
	case errors.As(err, &g):
		return fmt.Errorf("this host has no group %s", string(g))
	}
	return err
}

// wanted is how a file is to be in place of the one that is there.
func wanted(f hostconf.File, now file) (file, error) {
	out := file{Path: f.Path, There: true, Mode: now.Mode, UID: now.UID, GID: now.GID, Content: []byte(f.Content)}
	if !now.There {
		out.Mode = 0o644
		if f.Secret {
			out.Mode = 0o600
		}
	}
	if f.Mode != "" {
		m, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil {
			return out, fmt.Errorf("mode %q of %s: want octal digits, such as 0644", f.Mode, f.Path)
		}
		out.Mode = uint32(m)
	}
	if f.Owner == "" {
		return out, nil
	}
	name, group, _ := strings.Cut(f.Owner, ":")
	u, err := user.Lookup(name)
	if _, nerr := strconv.Atoi(name); nerr == nil {
		u, err = &user.User{Uid: name}, nil
	}
	if err != nil {
		return out, fmt.Errorf("owner %s of %s: %w", f.Owner, f.Path, unknownHere(err))
	}
	g, err := user.LookupGroup(group)
	if _, nerr := strconv.Atoi(group); nerr == nil {
		g, err = &user.Group{Gid: group}, nil
	}
	if err != nil {
		return out, fmt.Errorf("owner %s of %s: %w", f.Owner, f.Path, unknownHere(err))
	}
	out.UID, err = strconv.Atoi(u.Uid)
	if err == nil {
		out.GID, err = strconv.Atoi(g.Gid)
	}
	return out, err
}

// Compare compares the files of this host with those that it is to have, and with keep
// keeps these for a step. Errors about one file are in its answer.
func (x *Files) Compare(files []hostconf.File, keep bool) (hostconf.Answer, error) {
	if len(files) == 0 || len(files) > hostconf.MaxFiles {
		return hostconf.Answer{}, fail.Errorf(fail.Invalid, "%d files of a host: want 1 to %d", len(files), hostconf.MaxFiles)
	}
	var out hostconf.Answer
	told := 0
	for i, f := range files {
		if !hostconf.Target(f.Path) || f.Mode != "" && !hostconf.Mode(f.Mode) || len(f.Content) > hostconf.MaxFile ||
			slices.ContainsFunc(files[:i], func(g hostconf.File) bool { return g.Path == f.Path }) {
			return hostconf.Answer{}, fail.Errorf(fail.Invalid,
				"file %q, mode %q, %d bytes: want an absolute path once, an octal mode, and at most %d bytes", f.Path,
				f.Mode, len(f.Content), hostconf.MaxFile)
		}
		c := hostconf.Compared{Path: f.Path}
		now, err := look(f.Path)
		var want file
		if err == nil {
			want, err = wanted(f, now)
		}
		if err != nil {
			c.Problem = err.Error()
			out.Files = append(out.Files, c)
			continue
		}
		c.Was, c.Before, c.After, c.Same = now.state(), now.rights(), want.rights(), now.state() == want.state()
		switch {
		case c.Same:
		case f.Secret:
			c.Hidden = "secret"
		case !utf8.Valid(now.Content):
			c.Hidden = "not text"
		case told+len(now.Content) > hostconf.MaxSet:
			c.Hidden = "too long"
		default:
			c.Old, told = string(now.Content), told+len(now.Content)
		}
		out.Files = append(out.Files, c)
	}
	if !keep {
		return out, nil
	}
	var err error
	out.Set, err = x.keep(files)
	return out, err
}

// keep keeps files under a name that is of their content.
func (x *Files) keep(files []hostconf.File) (string, error) {
	text, err := json.Marshal(files)
	if err != nil {
		return "", fmt.Errorf("keep the files: %w", err)
	}
	dir := filepath.Join(x.Dir, "sets")
	if err := durable.MakeDir(dir); err != nil {
		return "", fmt.Errorf("keep the files: %w", err)
	}
	sum := sha256.Sum256(text)
	set := hex.EncodeToString(sum[:])
	if err := durable.WriteFile(filepath.Join(dir, set), text, 0o600); err != nil {
		return "", fmt.Errorf("keep the files: %w", err)
	}
	return set, thin(dir, keepSets)
}

// thin leaves the newest entries of a directory.
func thin(dir string, n int) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove what is old: %w", err)
	}
	times := map[string]time.Time{}
	for _, e := range list {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // another one removes it
		}
		if err != nil {
			return fmt.Errorf("remove what is old: %w", err)
		}
		times[e.Name()] = info.ModTime()
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int {
		return cmp.Or(times[b.Name()].Compare(times[a.Name()]), strings.Compare(a.Name(), b.Name()))
	})
	for _, e := range list[min(n, len(list)):] {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what is old: %w", err)
		}
	}
	return nil
}

// change is what a step has to do with one file: what it takes, by its state, and what it leaves.
type change struct {
	from string
	to   file
}

// changes reads what a step has to do. begin: of a backup that is not there yet one is made.
func (x *Files) changes(t engine.Task, begin bool) ([]change, error) {
	args, err := engine.Args[hostconf.Args](t)
	if err != nil {
		return nil, err
	}
	job := cmp.Or(args.Back, t.Job)
	if !filepath.IsLocal(job) || filepath.Base(job) != job || len(args.Set) > 0 && filepath.Base(args.Set) != args.Set {
		return nil, fmt.Errorf("step %s: its arguments name no job or no files", t.Step.ID)
	}
	at := filepath.Join(x.Dir, "backups", job)
	b, err := readBackup(at)
	switch {
	case err == nil && args.Back != "":
		var out []change
		for i, f := range b.Old {
			out = append(out, change{from: b.New[i], to: f})
		}
		return out, nil
	case args.Back != "":
		return nil, fmt.Errorf("what was there before %s is not kept on this host: %w", job, err)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	files, err := x.set(args.Set)
	if err != nil {
		return nil, err
	}
	if len(files) != len(args.Was) {
		return nil, fmt.Errorf("step %s: %d states of %d files", t.Step.ID, len(args.Was), len(files))
	}
	if b != nil {
		return forward(files, b.Old)
	}
	old := make([]file, len(files))
	for i, f := range files {
		if old[i], err = look(f.Path); err != nil {
			return nil, err
		}
		if old[i].state() != args.Was[i] {
			return nil, fmt.Errorf("%s was changed since it was compared: nothing is written: abort the job, and compare again", f.Path)
		}
	}
	out, err := forward(files, old)
	if err != nil || !begin {
		return out, err
	}
	b = &backup{Title: args.Title, Set: args.Set, Old: old}
	for _, c := range out {
		b.New = append(b.New, c.to.state())
	}
	text, err := json.Marshal(b)
	if err == nil {
		err = durable.MakeDir(filepath.Dir(at))
	}
	if err == nil {
		err = durable.WriteFile(at, text, 0o600)
	}
	if err == nil {
		err = thin(filepath.Dir(at), keepBackups)
	}
	if err != nil {
		return nil, fmt.Errorf("keep what was there before: %w", err)
	}
	return out, nil
}

func forward(files []hostconf.File, old []file) ([]change, error) {
	var out []change
	for i, f := range files {
		to, err := wanted(f, old[i])
		if err != nil {
			return nil, err
		}
		out = append(out, change{from: old[i].state(), to: to})
	}
	return out, nil
}

func readBackup(path string) (*backup, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &backup{}
	if err := json.Unmarshal(text, b); err != nil || len(b.Old) != len(b.New) {
		return nil, fmt.Errorf("%s can not be read: %w", path, cmp.Or(err, errors.New("it is damaged")))
	}
	return b, nil
}

// set reads files that were kept.
func (x *Files) set(name string) ([]hostconf.File, error) {
	path := filepath.Join(x.Dir, "sets", name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the files that were compared are not kept on this host any more: abort the job, and begin anew")
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != name {
		return nil, fmt.Errorf("%s is not what was kept: it is damaged: abort the job, and begin anew", path)
	}
	var out []hostconf.File
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}

// pending are the changes that are not made. One of a file that has neither what is taken nor
// what is left is an error: nobody's content is written over unseen.
func pending(all []change) ([]change, error) {
	var out []change
	for _, c := range all {
		now, err := look(c.to.Path)
		if err != nil {
			return nil, err
		}
		switch now.state() {
		case c.to.state():
		case c.from:
			out = append(out, c)
		default:
			return nil, fmt.Errorf("%s was changed since it was compared or written: nothing more is written: look "+
				"who changed it, make it as it was, and go on; or abort the job", c.to.Path)
		}
	}
	return out, nil
}

// Do implements engine.Executor.
func (x *Files) Do(ctx context.Context, t engine.Task) error {
	all, err := x.changes(t, true)
	if err != nil {
		return err
	}
	todo, err := pending(all)
	if err != nil {
		return err
	}
	for i, c := range todo {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.Note(c.to.Path, 100*i/len(todo))
		if err := c.to.write(); err != nil {
			return err
		}
		program.Say(t.Log, "%s: %s", c.to.Path, cmp.Or(c.to.rights(), "removed"))
	}
	if todo, err = pending(all); err == nil && len(todo) > 0 {
		err = fmt.Errorf("%s was written, and is as it was before", todo[0].to.Path)
	}
	return err
}

// write makes the file what it is to be, or removes it.
func (f *file) write() error {
	if !f.There {
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return durable.SyncDir(filepath.Dir(f.Path))
	}
	return durable.Write(f.Path, fs.FileMode(f.Mode), func(w *os.File) error {
		if _, err := w.Write(f.Content); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := w.Chown(f.UID, f.GID); err != nil {
			return fmt.Errorf("give %s to its owner: %w", f.Path, err)
		}
		return nil
	})
}

// Probe implements engine.Executor: a step whose files are all there is done, any other one
// goes on where it was.
func (x *Files) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	all, err := x.changes(t, false)
	if err != nil {
		return engine.NotDone, nil // Do tells what is wrong
	}
	if todo, err := pending(all); err != nil || len(todo) > 0 {
		return engine.NotDone, nil
	}
	return engine.ProbedDone, nil
}
