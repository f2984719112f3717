package pair

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/install/setup"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// recoverable is a pair whose other node has failed, and what is installed on this one. The
// addresses are those of nobody: of "this network" (RFC 791), to which Linux refuses to send.
func recoverable(t *testing.T) (a *clitest.Agent, dir string) {
	t.Helper()
	a, dir = clitest.NewAgent(t), t.TempDir()
	a.Pair.Lay(func(p *cluster.PairStatus) { p.Nodes[1].Alive = false })
	for name, text := range map[string]string{
		"agent.json": `{"host": "node1", "addr": "0.0.0.1", "cluster": "c-1", "store": {"endpoints": ["http://127.0.0.1:2379"]}}`,
		"cluster.json": `{"Type": "PairConf", "Node": ["0.0.0.1 node1", "0.0.0.2 node2", "0.0.0.3 node3"], "Pair": {"Nodes": ["node1", "node2"],
			"Database": {"Admin": {"User": "holdfast", "Credential": "file:` + dir + `/a"}, "Replication": {"User": "replication", "Credential": "file:` + dir + `/b"}},
			"Group": [{"Unit": "tomcat.service"}, {"VIP": "192.0.2.9/24"}]}}`,
		"a": "one\n", "b": "two\n",
	} {
		try.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return a, dir
}

// script runs the source tool's script, with what is typed on a terminal.
func script(t *testing.T, of *clitest.Agent, dir string, args []string,
	says ...string) (text, shown string, err error) {
	t.Helper()
	return clitest.Dialogue(t, func(a *command.App) error {
		a.Env.Stdout = a.Env.Stderr // as a terminal shows both
		a.Socket = of.Socket
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		return RecoveryScript(a, cmd, dir, nil, args)
	}, says...)
}

// TestRecoveryScript: its texts are those of the source's manual, word by word (5.1.3), and
// passwords are not shown.
func TestRecoveryScript(t *testing.T) {
	a, dir := recoverable(t)
	const question = "Please confirm to recovery 0.0.0.2 and format peer's /vms partition [yes/no]:\n"
	for _, answer := range []string{"no\n", "y\n", "\n", "\x04"} {
		text, _, err := script(t, a, dir, []string{"0.0.0.2", "123&456", "123456"}, question, answer)
		if text != question || fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%q: %q, %v", answer, text, err)
		}
	}
	text, shown, err := script(t, a, dir, []string{"0.0.0.2", "123&456", "123456"}, question, "yes\n")
	if err == nil || !strings.HasPrefix(text, question+"-----Ip address Check-----\n") || strings.Contains(text+shown+err.Error(), "123") {
		t.Errorf("%q, shown %q, %v", text, shown, err)
	}

	const first, second = "Password of root on the hosts: ", "Password of root on the arbiter (empty: the same): "
	text, shown, err = script(t, a, dir, []string{"0.0.0.2"}, question, "yes\n", first, "it's &#@$ \"one\"\n", second, "another\n")
	if err == nil || !strings.HasPrefix(text, question+"-----Ip address Check-----\n"+first+"\n"+second+"\n") {
		t.Errorf("%q, %v", text, err)
	}
	if shown != "yes\r\n" || strings.Contains(text+err.Error(), "another") {
		t.Errorf("the terminal shows %q", shown)
	}
	if _, err := os.Stat(filepath.Join(dir, filepath.Base(install.SetupLock))); !os.IsNotExist(err) {
		t.Errorf("the lock: %v", err)
	}
}

// TestRecoverWithoutAnInstallation: an agent of a pair that was not installed, as in the laboratory, says so.
func TestRecoverWithoutAnInstallation(t *testing.T) {
	a, dir := recoverable(t)
	_, _, err := script(t, a, t.TempDir(), []string{"0.0.0.2", "one"})
	if fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(err.Error(),
		"the settings of its agent are in "+filepath.Dir(a.Socket)+"/agent.json") {
		t.Errorf("beside the agent of a pair: %v", err)
	}
	try.Must(t, os.Remove(filepath.Join(dir, "agent.json")))
	if _, _, err := script(t, clitest.NewAgent(t), dir,
		[]string{"0.0.0.2", "one"}); fail.ExitCode(err) != fail.ExitRefused ||
		!strings.Contains(err.Error(), "no node of a pair") {
		t.Errorf("beside the agent of a management VM: %v", err)
	}
}

// TestRecoveryScriptByAPipe: a script of somebody's answers it; passwords are not asked for then.
func TestRecoveryScriptByAPipe(t *testing.T) {
	of, dir := recoverable(t)
	run := func(typed string, args ...string) (string, error) {
		var said strings.Builder
		a := &command.App{Env: command.Env{Stdout: &said, Stderr: io.Discard, Stdin: strings.NewReader(typed)},
			Socket: of.Socket}
		cmd := &cobra.Command{Use: "ms_recovery.sh"}
		cmd.SetContext(t.Context())
		err := RecoveryScript(a, cmd, dir, nil, args)
		return said.String(), err
	}
	if text, err := run("yes\n", "0.0.0.2", "secret"); err == nil || fail.ExitCode(err) == fail.ExitRefused ||
		!strings.HasSuffix(text, "[yes/no]:\n-----Ip address Check-----\n") {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := run("", "0.0.0.2", "secret"); fail.ExitCode(err) != fail.ExitInvalid {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := run("yes\n", "0.0.0.2"); fail.ExitCode(err) != fail.ExitInvalid || text != "" {
		t.Errorf("%q, %v", text, err)
	}
	free, err := setup.Lock(filepath.Join(dir, filepath.Base(install.SetupLock)), "set-up")
	try.Must(t, err)
	_, err = run("yes\n", "0.0.0.2", "secret")
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Refused ||
		!strings.HasPrefix(e.Message, fmt.Sprintf("a set-up is at work on this node: process %d, ", os.Getpid())) {
		t.Errorf("beside a set-up: %v", err)
	}
	try.Must(t, free())
}
