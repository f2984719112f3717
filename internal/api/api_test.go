package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/lib/fail"
)

func TestKinds(t *testing.T) {
	exits := map[fail.Kind]int{
		fail.Failed: 1, fail.Unknown: 1, fail.Invalid: 2, fail.Refused: 3,
		fail.Unavailable: 4, fail.Timeout: 1, fail.Canceled: 1, fail.Denied: 1,
	}
	if len(codes()) != len(exits) {
		t.Fatalf("the table has %d rows, the test knows %d", len(codes()), len(exits))
	}
	seen := map[connect.Code]bool{}
	for kind, exit := range exits {
		if seen[CodeOf(kind)] {
			t.Errorf("%s shares the code %s", kind, CodeOf(kind))
		}
		seen[CodeOf(kind)] = true
		if got := KindOf(CodeOf(kind)); got != kind {
			t.Errorf("%s comes back from %s as %s", kind, CodeOf(kind), got)
		}
		if got := fail.ExitCode(fmt.Errorf("outer: %w", fail.Errorf(kind, "x"))); got != exit {
			t.Errorf("%s exits with %d, want %d", kind, got, exit)
		}
	}
	if got := KindOf(connect.CodeDataLoss); got != fail.Failed {
		t.Errorf("a code without a row is %s, want %s", got, fail.Failed)
	}
	if got := fail.ExitCode(nil); got != fail.ExitDone {
		t.Errorf("no error exits with %d", got)
	}
	if got := fail.ExitCode(errors.New("x")); got != fail.ExitFailed {
		t.Errorf("a plain error exits with %d", got)
	}
}

func TestDialRefusesTargets(t *testing.T) {
	for _, target := range []string{"", "unix:", "http://10.0.0.1", "https://", "https://10.0.0.1/x", "10.0.0.1:7443", "https://10.0.0.1"} {
		_, err := Dial(target, nil)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Invalid {
			t.Errorf("Dial(%q) = %v, want an error of kind %s", target, err, fail.Invalid)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.sock")
	c, err := Dial("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = c.Status(ctx)
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Unavailable {
		t.Fatalf("got %v, want an error of kind %s", err, fail.Unavailable)
	}
	if !strings.Contains(e.Message, path) || !strings.Contains(e.Remedy, "systemctl start holdfast") {
		t.Errorf("message %q or remedy %q does not help", e.Message, e.Remedy)
	}
}

// TestGeneratedIsFresh runs the generator again where it is installed.
// TestAnAgentThatEndsWhileItAnswers: nobody can do anything about the library's words, and the command may be tried again.
func TestAnAgentThatEndsWhileItAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write([]byte{0, 0, 0, 0}) // of the five bytes that begin a message
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	c, err := Dial("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, err := range c.WatchStatus(t.Context()) {
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Unavailable || !strings.Contains(e.Message, "ended in the middle of its answer") {
			t.Errorf("%v", err)
		}
	}
}

// TestWatchPairAsksASilentAgent: one whose stream tells nothing is asked all the same, again and again.
func TestWatchPairAsksASilentAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == apiv1connect.ClusterServiceWatchStatusProcedure {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	c, err := Dial("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asked := 0
	for _, err := range c.watchPair(t.Context(), time.Millisecond) {
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Unavailable {
			t.Fatal(err)
		}
		if asked++; asked == 3 {
			return
		}
	}
	t.Errorf("it was asked %d times", asked)
}

func TestGeneratedIsFresh(t *testing.T) {
	tools := generatorPath(t)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "protoc", "-I", "v1", "--go_out="+dir, "--go_opt=paths=source_relative",
		"--connect-go_out="+dir, "--connect-go_opt=paths=source_relative,simple", "holdfast.proto", "upgrade.proto",
		"agent.proto", "pair.proto", "access.proto", "notification.proto")
	cmd.Env = append(os.Environ(), "PATH="+tools)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	version := regexp.MustCompile(`(?m)^// \s*protoc .*$`)
	for _, name := range []string{
		"holdfast.pb.go", "upgrade.pb.go", "agent.pb.go", "pair.pb.go",
		"apiv1connect/holdfast.connect.go", "apiv1connect/upgrade.connect.go", "apiv1connect/agent.connect.go", "apiv1connect/pair.connect.go",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join("v1", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(version.ReplaceAll(got, nil), version.ReplaceAll(have, nil)) {
			t.Errorf("v1/%s is not what the generator makes: run go generate ./internal/api", name)
		}
	}
}

// generatorPath returns a PATH with the generators, and skips the test where
// protoc or a plugin of the version in use is missing.
func generatorPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PATH")
	if home, err := os.UserHomeDir(); err == nil {
		path += string(os.PathListSeparator) + filepath.Join(home, "go", "bin")
	}
	t.Setenv("PATH", path)
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed:", err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("this test binary has no build information")
	}
	for plugin, module := range map[string]string{
		"protoc-gen-go":         "google.golang.org/protobuf",
		"protoc-gen-connect-go": "connectrpc.com/connect",
	} {
		out, err := exec.CommandContext(t.Context(), plugin, "--version").Output()
		if err != nil {
			t.Skipf("%s is not installed: %v", plugin, err)
		}
		for _, dep := range info.Deps {
			want := strings.TrimPrefix(dep.Version, "v")
			if dep.Path == module && !strings.HasSuffix(strings.TrimSpace(string(out)), want) {
				t.Skipf("%s is version %s, the module is %s", plugin, bytes.TrimSpace(out), dep.Version)
			}
		}
	}
	return path
}

// TestTheSocketIsNamedOnce: an error does not say the address of the target a second time.
func TestTheSocketIsNamedOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	c, err := Dial("unix:"+socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Version(t.Context())
	if want := "can not reach the agent at unix:" + socket + ": connect: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
