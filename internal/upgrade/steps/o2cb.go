package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"holdfast/internal/job/engine"
	"holdfast/internal/lib/durable"
	"holdfast/internal/upgrade"
)

const (
	o2cbParameter = "O2CB_HEARTBEAT_THRESHOLD"
	o2cbLeast     = 3       // the kernel passes over what is not above 2
	o2cbMost      = 3601    // 2 h
	o2cbMaxFile   = 1 << 20 // bytes
)

// O2CB sets the heartbeat threshold of ocfs2: the Executor of upgrade.KindO2CB. A host
// without its storage fences itself after (threshold - 1) * 2 s: 61 stands for 120 s.
type O2CB struct {
	Root string // directory that stands for /; "" for /

	write func(path, text string) error // a file of the kernel; nil: o2cbWrite. Tests put in a kernel that refuses.
}

// Probe tells whether the threshold is configured, and in use where the cluster
// stack runs.
func (d *O2CB) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	args, err := o2cbArgs(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	files, live, err := d.find()
	if err != nil {
		return engine.CanNotTell, err
	}
	if len(files) == 0 {
		return engine.NotDone, nil
	}
	for _, f := range files {
		text, err := o2cbRead(f)
		if err != nil {
			return engine.CanNotTell, err
		}
		if !bytes.Equal(text, o2cbSet(text, args.Threshold)) {
			return engine.NotDone, nil
		}
	}
	for _, f := range live {
		now, err := o2cbLive(f)
		if err != nil {
			return engine.CanNotTell, err
		}
		if now != args.Threshold {
			return engine.NotDone, nil
		}
	}
	return engine.ProbedDone, nil
}

// Do writes the configuration, then the value in use. A kernel that does not take
// it while pools are mounted (before E0306, and Linux's own) fails the step.
func (d *O2CB) Do(_ context.Context, t engine.Task) error {
	args, err := o2cbArgs(t)
	if err != nil {
		return err
	}
	files, live, err := d.find()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		if len(live) == 0 {
			return errors.New("this host has neither /etc/default/o2cb nor /etc/sysconfig/o2cb, and no ocfs2 cluster " +
				"runs on it: install ocfs2-tools, or skip this step when it uses no ocfs2")
		}
		files = []string{d.newFile()}
	}
	for _, f := range files {
		if err := d.configure(t, f, args.Threshold); err != nil {
			return err
		}
	}
	if len(live) == 0 {
		fmt.Fprintln(t.Log, "no ocfs2 cluster runs here: the threshold is in use when it is started")
	}
	var errs []error
	for _, f := range live {
		errs = append(errs, d.use(t, f, args.Threshold))
	}
	return errors.Join(errs...)
}

func o2cbArgs(t engine.Task) (upgrade.O2CBArgs, error) {
	args, err := engine.Args[upgrade.O2CBArgs](t)
	if err == nil && (args.Threshold < o2cbLeast || args.Threshold > o2cbMost) {
		err = fmt.Errorf("heartbeat threshold %d: want %d to %d", args.Threshold, o2cbLeast, o2cbMost)
	}
	return args, err
}

func (d *O2CB) at(name string) string { return filepath.Join("/", d.Root, name) }

// find returns the configuration files that exist, links followed, and the
// kernel's files with the values in use.
func (d *O2CB) find() (files, live []string, err error) {
	for _, name := range []string{"etc/default/o2cb", "etc/sysconfig/o2cb"} {
		real, err := filepath.EvalSymlinks(d.at(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look for the configuration of o2cb: %w", err)
		}
		files = append(files, real)
	}
	live, err = filepath.Glob(d.at("sys/kernel/config/cluster/*/heartbeat/dead_threshold"))
	if err != nil {
		return nil, nil, fmt.Errorf("look for ocfs2 clusters: %w", err)
	}
	return files, live, nil
}

// newFile is where the configuration belongs when there is none.
func (d *O2CB) newFile() string {
	if _, err := os.Stat(d.at("etc/sysconfig")); err == nil {
		return d.at("etc/sysconfig/o2cb")
	}
	return d.at("etc/default/o2cb")
}

// configure writes the threshold into a configuration file, and keeps all else.
func (d *O2CB) configure(t engine.Task, path string, threshold int) error {
	text, err := o2cbRead(path)
	made := errors.Is(err, fs.ErrNotExist)
	if err != nil && !made {
		return err
	}
	next := o2cbSet(text, threshold)
	if bytes.Equal(next, text) {
		fmt.Fprintf(t.Log, "%s: %s=%d already\n", path, o2cbParameter, threshold)
		return nil
	}
	like, err := os.Stat(path)
	if made {
		like, err = nil, durable.MakeDirs(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return fmt.Errorf("configure o2cb: %w", err)
	}
	if err := hostReplace(path, next, 0o644, like); err != nil {
		return fmt.Errorf("configure o2cb: %w", err)
	}
	fmt.Fprintf(t.Log, "%s: %s=%d now\n", path, o2cbParameter, threshold)
	return nil
}

func o2cbRead(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > o2cbMaxFile) {
		err = fmt.Errorf("%s: want a file of at most %d bytes", path, o2cbMaxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration of o2cb: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of o2cb: %w", err)
	}
	return text, nil
}

// o2cbLine is an assignment of the threshold as a shell reads it: what is before
// the value, the value, and what is behind it.
var o2cbLine = regexp.MustCompile(`(?m)^([ \t]*(?:export[ \t]+)?` + o2cbParameter + `=)("[^"\n]*"|'[^'\n]*'|[^\s#;]*)`)

// o2cbSet sets the threshold wherever it is assigned; a file without gets a line.
func o2cbSet(text []byte, threshold int) []byte {
	value := strconv.Itoa(threshold)
	if o2cbLine.Match(text) {
		return o2cbLine.ReplaceAll(text, []byte("${1}"+value))
	}
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, o2cbParameter+"="+value+"\n"...)
}

// use writes the value in use, and reads it back: the kernel passes over it
// without an error while it has heartbeats on disks.
func (d *O2CB) use(t engine.Task, path string, threshold int) error {
	name := filepath.Base(filepath.Dir(filepath.Dir(path)))
	old, err := o2cbLive(path)
	if err != nil || old == threshold {
		return err
	}
	write := d.write
	if write == nil {
		write = o2cbWrite
	}
	werr := write(path, strconv.Itoa(threshold))
	now, err := o2cbLive(path)
	if err != nil {
		return errors.Join(werr, err)
	}
	if now != threshold {
		err := fmt.Errorf("ocfs2 cluster %s: the threshold in use stays %d, although %d is configured: this kernel "+
			"does not change it while pools are mounted: suspend all shared pools of the host, retry this step and "+
			"resume them; or skip it, and the next reboot brings it into use",
			name, now, threshold)
		return errors.Join(err, werr)
	}
	fmt.Fprintf(t.Log, "ocfs2 cluster %s: the threshold in use was %d, is %d\n", name, old, now)
	return nil
}

func o2cbLive(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the threshold in use: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read the threshold in use: %s: %w", path, err)
	}
	return n, nil
}

func o2cbWrite(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("set the threshold in use: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set the threshold in use: %w", err)
	}
	return nil
}
