package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/database"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/text"
)

// Verbs of action/appctl.sh that mean more here than what the script says.
const (
	verbStatus     = "check_status"
	verbPre        = "pre_upgrade"
	verbCheckpoint = "check_point"
	verbStart      = "start"
	verbUpgrade    = "upgrade"
	verbRollback   = "rollback"
	verbCommit     = "upgrade_commit"
)

// appctlStep calls a verb as docs/appctl.md says. It is done when the script has said so
// and, where that can be, when what it has brought about was read back.
type appctlStep struct {
	host *Host
	what *manifest.Appctl
	step *Step
}

func (a *appctlStep) verb() string { return a.what.Call[0] }

func (a *appctlStep) do(ctx context.Context) (program.Result, error) {
	a.step.Terminal = true
	switch a.verb() {
	case verbStart:
		if r, err := a.call(ctx, a.what.Home, []string{verbStatus}); err != nil || r.OK() {
			return r, err
		}
	case verbPre:
		if why := a.host.engineUnmet(a.what.Home, a.step.Values.Mode, a.step.Credentials, false); why != "" {
			return failed(why), nil
		}
	case verbRollback:
		if why := a.untouched(); why != "" {
			a.say("there is nothing to roll back: %s", why)
			return program.Result{State: program.Done}, nil
		}
	}
	dir := a.what.Home
	if !a.what.Installed {
		var err error
		if dir, err = a.copied(ctx, a.verb() == verbPre); err != nil {
			return failed(fmt.Sprintf("copy the package: %v", err)), nil
		}
	}
	r, err := a.call(ctx, dir, replace(a.step, a.what.Call))
	if err != nil || r.State != program.Done {
		return r, err
	}
	return a.judge(ctx, r)
}

// call runs the script of an engine or package in a directory, by sh: its own modes may
// not let it be executed. Arguments that are empty are left out.
func (a *appctlStep) call(ctx context.Context, dir string, call []string) (program.Result, error) {
	sh, err := program.LookIn(a.host.Tools.path(), "sh")
	if err != nil {
		return failed(err.Error()), nil
	}
	script := filepath.Join(dir, database.Script)
	if _, err := os.Stat(script); err != nil {
		return failed(err.Error()), nil
	}
	call = slices.DeleteFunc(call, func(arg string) bool { return arg == "" })
	return a.host.command(ctx, a.step, program.Spec{
		Argv: append([]string{sh, script}, call...), Env: a.host.environment(a.step), Dir: filepath.Dir(script),
		Credentials: a.step.Credentials, Terminal: a.step.Terminal,
	})
}

// done judges what the last call has said. Of a call whose end is not known only an upgrade
// can be judged by what is installed: versions.yml is the last that it replaces, while
// after an upgrade that has failed it may be the old one still.
func (a *appctlStep) done(ctx context.Context, last program.Result) (program.Result, error) {
	switch {
	case last.State == program.Done:
		return a.judge(ctx, last)
	case last.State == program.Unknown && a.verb() == verbUpgrade && a.installed(a.step.Values.Version) == "":
		return program.Result{State: program.Done}, nil
	}
	return last, nil
}

var saidEnd = regexp.MustCompile(`Execute \S+ (\w+)\.sh return (success|failed)`)

// judge looks for the line with which the script ends, since it may exit with 0 when it
// has failed, and reads back what it has brought about.
func (a *appctlStep) judge(ctx context.Context, r program.Result) (program.Result, error) {
	said, err := os.ReadFile(r.OutputFile)
	if err != nil {
		return r, fmt.Errorf("read what %s has said: %w", a.verb(), err)
	}
	r.State, r.Why = program.Failed, a.unsaid(string(said))
	if r.Why == "" {
		r.Why = a.readBack(ctx)
	}
	if r.Why == "" {
		r.State = program.Done
	}
	return r, nil
}

// unsaid says what is wrong with the last line of the kind that ends a call.
func (a *appctlStep) unsaid(said string) string {
	all := saidEnd.FindAllStringSubmatch(said, -1)
	if len(all) == 0 {
		return fmt.Sprintf("it ended with exit code 0, but did not say that %s was a success", a.verb())
	}
	end := all[len(all)-1]
	switch {
	case end[2] != "success":
		return fmt.Sprintf("it ended with exit code 0, but said: %s", end[0])
	case end[1] != a.verb() && (a.verb() != verbStart || end[1] != verbStatus):
		return fmt.Sprintf("its last message is about another action: %s", end[0])
	}
	return ""
}

// readBack says what is not as the verb should have left it.
func (a *appctlStep) readBack(ctx context.Context) string {
	switch v := a.step.Values; a.verb() {
	case verbUpgrade:
		return a.installed(v.Version)
	case verbRollback:
		return a.installed(v.From)
	case verbCommit:
		return a.committed(ctx, v.Version)
	case verbCheckpoint:
		// The guide has it removed by hand: a rollback would take it for a reason to leave
		// the snapshots of the array alone.
		if err := os.Remove(filepath.Join(a.what.Home, "check_point.success")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err.Error()
		}
	}
	return ""
}

// installed says that another version than that is installed, "" when it is that one.
func (a *appctlStep) installed(want string) string {
	switch have, err := database.Version(a.what.Home); {
	case err != nil:
		return err.Error()
	case have != want:
		return fmt.Sprintf("it said that it was a success, but %s/%s says %q, want %q", a.what.Home, database.Versions, have, want)
	}
	return ""
}

// untouched says why an upgrade has changed nothing on this host: it backs up everything
// before, and the package's own rollback refuses when that was not done.
func (a *appctlStep) untouched() string {
	from := a.step.Values.From
	if a.installed(from) != "" {
		return ""
	}
	mark := filepath.Join(a.what.Home, "upgrade_backup", "cantian_upgrade_bak_"+from, "backup_success")
	if _, err := os.Lstat(mark); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return fmt.Sprintf("version %s is installed, and its backup is not complete: nothing was replaced", from)
}

var (
	engineUser    = regexp.MustCompile(`(?m)^cantian_user="?([a-zA-Z0-9_-]+)"?$`)
	raisedNumber  = regexp.MustCompile(`gcc version:(\d+\.\d+\.\d+)`)
	controlNumber = regexp.MustCompile(`(?m)^(\d+\.\d+\.\d+)\.\d+\s*$`)
	leadNumbers   = regexp.MustCompile(`^\d+(\.\d+){0,2}`)
)

// committed says that the version of the engine's cluster, or that of its database, is
// another one than that: the first three numbers count, as upgrade_commit raises them.
func (a *appctlStep) committed(ctx context.Context, want string) string {
	env, err := os.ReadFile(filepath.Join(a.what.Home, "action/env.sh"))
	if err != nil {
		return fmt.Sprintf("find the account of the engine: %v", err)
	}
	user := engineUser.FindSubmatch(env)
	if user == nil {
		return a.what.Home + "/action/env.sh does not name the account of the engine: it has no line cantian_user=NAME"
	}
	if why := a.tells(ctx, string(user[1]), "cms version", "", raisedNumber, want); why != "" {
		return why
	}
	password, err := a.sysPassword()
	switch {
	case err != nil:
		return fmt.Sprintf("read the database's version back: %v", err)
	case password == "":
		a.say("DV_CTRL_VERSION was not read back: that takes the password of the engine's user sys, as secrets: {%s: "+
			"PASSWORD} in the credentials file", sysSecret)
		return ""
	}
	return a.tells(ctx, string(user[1]), askControl, password, controlNumber, want)
}

const (
	// askControl logs in as the package's own scripts do: the password is read from standard input.
	askControl = `ctsql sys@127.0.0.1:1611 -q -c "SELECT * FROM SYS.DV_CTRL_VERSION"`
	sysSecret  = "sys" // what the credentials file calls the password
)

// sysPassword is that of the engine's user sys, "" when the operator has not given it.
func (a *appctlStep) sysPassword() (string, error) {
	if a.step.Credentials == "" {
		return "", nil
	}
	c, err := program.ReadCredentials(a.step.Credentials)
	if err != nil {
		return "", err
	}
	return c.Secrets[sysSecret], nil
}

// say adds a line to the log, where a step has one.
func (a *appctlStep) say(format string, args ...any) {
	if a.step.Attempt != nil {
		a.step.Attempt.Say(format, args...)
	}
}

// tells runs a command of the engine's account, with a secret on its standard input if one
// is given, and says how the version that it tells is not that.
func (a *appctlStep) tells(ctx context.Context, user, command, secret string, number *regexp.Regexp, want string) string {
	out, exit, err := a.host.ask(ctx, queryTimeout, strings.NewReader(secret+"\n"), "su", "-s", "/bin/bash", "-", user, "-c", command)
	told, name := number.FindStringSubmatch(out), command
	if secret != "" {
		out, name = strings.ReplaceAll(out, secret, "***"), "DV_CTRL_VERSION of ctsql"
	}
	switch {
	case err != nil:
		return fmt.Sprintf("read the version back: %v", err)
	case exit != 0 || told == nil:
		return fmt.Sprintf("the version could not be read back: %s ended with %d and said %q", name, exit, text.Line(out, 200))
	case !sameNumbers(told[1], want):
		return fmt.Sprintf("it said that it was a success, but %s tells %s, want %s", name, strings.TrimSpace(told[0]), want)
	}
	return ""
}

// sameNumbers reports whether the three numbers are those that a version begins with; those
// that it does not have count as 0.
func sameNumbers(three, version string) bool {
	have := strings.Split(leadNumbers.FindString(version), ".")
	for i, t := range strings.Split(three, ".") {
		n := "0"
		if i < len(have) {
			n = have[i]
		}
		x, xerr := strconv.Atoi(t)
		y, yerr := strconv.Atoi(n)
		if xerr != nil || yerr != nil || x != y {
			return false
		}
	}
	return true
}

// copied is where the package's own scripts may change its files, and where the engine's
// accounts can read them: a copy, made anew when the checks before an upgrade begin.
func (a *appctlStep) copied(ctx context.Context, anew bool) (string, error) {
	b := a.step.Bundle
	dir := filepath.Join(a.host.Packages, filepath.Base(b.Dir))
	root := filepath.Join(dir, a.what.Package)
	_, err := os.Lstat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err == nil && !anew {
		return root, nil
	}
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil {
		return "", err
	}
	for name, f := range b.Files { // what is beside the package, too: its scripts look there for the connector
		if err := copyFile(ctx, b, name, filepath.Join(part, name), fs.FileMode(f.Mode)); err != nil {
			return "", err
		}
	}
	// Whatever the umask of the agent is, everybody may read it.
	err = filepath.WalkDir(part, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o755)
		}
		return err
	})
	if err = errors.Join(err, os.Chmod(a.host.Packages, 0o755)); err != nil {
		return "", err
	}
	if err := enterable(a.host.Packages); err != nil {
		return "", err
	}
	return root, durable.Rename(part, dir)
}

// enterable wants every account to get to a directory: the scripts read the package as the engine's
// accounts, long after the first change.
func enterable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err != nil {
			return err
		}
		if st.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("the accounts of the engine can not enter %s, which has mode %04o, to read %s: chmod "+
				"o+x %s, or choose another data_dir", at, st.Mode().Perm(), dir, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// copyFile copies a file of the bundle that is as the manifest says.
func copyFile(ctx context.Context, b *Bundle, name, to string, mode fs.FileMode) (err error) {
	from, err := b.Verify(ctx, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // it is only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Sync(), out.Close())
}
