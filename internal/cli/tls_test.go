package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
)

// writePEM writes a certificate and its key, and returns their paths.
func writePEM(t *testing.T, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		keyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestServerFlag(t *testing.T) {
	a := clitest.NewAgent(t)
	ca := servertest.NewAuthority(t)
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate()}), 0o600); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := writePEM(t, dir, "admin", ca.PeerCert(t, "admin"))
	addr := make(chan string, 1)
	s, err := server.New(a.Fake, server.Options{
		Socket: a.Socket + "2", Listen: "127.0.0.1:0", Version: "1.2.4", Jobs: a.Upgrades, Upgrade: a.Upgrades,
		Log: servertest.ListenLog(func(at string) { addr <- at }),
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	var target string
	select {
	case target = <-addr:
	case <-ctx.Done():
		t.Fatal("the server does not listen")
	}
	var out, errOut bytes.Buffer
	run := func(args ...string) int {
		return Main(args, command.Env{Stdout: &out, Stderr: &errOut, Stdin: strings.NewReader("")})
	}
	if code := run("stop", "--timeout", "0", "--server", "https://"+target, "--ca", caFile, "--cert", certFile, "--key", keyFile); code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	if users := a.Users(); len(users) != 1 || users[0] != "admin" {
		t.Errorf("users %q, want admin", users)
	}
	if code := run("status", "--server", "https://"+target, "--ca", certFile, "--cert", certFile, "--key", keyFile); code != 4 ||
		!strings.Contains(errOut.String(), "check --ca, --cert and --key") {
		t.Errorf("a CA that is not the agent's: exit code %d: %s", code, errOut.String())
	}
	// Where --key is the bundle's, the client's has another name.
	if code := run("upgrade", "check", "--server", "https://"+target, "--ca", caFile, "--cert", certFile, "--client-key", keyFile); code != 0 {
		t.Errorf("upgrade check: exit code %d: %s", code, errOut.String())
	}
	if code := run("upgrade", "check", "--server", "https://"+target, "--ca", caFile, "--cert", certFile, "--key", keyFile); code != 2 ||
		!strings.Contains(errOut.String(), "--server needs --ca, --cert and --client-key") {
		t.Errorf("upgrade check without --client-key: exit code %d: %s", code, errOut.String())
	}

	// A site is asked over TLS, one server after the other; one that is not who it should be has not answered.
	sites := filepath.Join(dir, "sites.yaml")
	list := fmt.Sprintf("format: 1\nsites:\n- {name: north, servers: [%q, %q], ca: %s, cert: %[4]s, key: %s}\n- "+
		"{name: south, servers: [%[2]q], ca: %[4]s, cert: %[4]s, key: %[5]s}\n",
		"https://127.0.0.1:1", "https://"+target, caFile, certFile, keyFile)
	if err := os.WriteFile(sites, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := run("transition", "sites", sites, "-o", "json"); code != 4 {
		t.Errorf("sites: exit code %d: %s", code, errOut.String())
	}
	var views []struct {
		State, Server, Why string
		Needs              bool `json:"needs_a_person"`
	}
	if err := json.Unmarshal(out.Bytes(), &views); err != nil || len(views) != 2 {
		t.Fatalf("%v: %s", err, out.String())
	}
	if v := views[0]; v.State != "none" || v.Needs || !strings.HasSuffix(v.Server, target) {
		t.Errorf("over TLS: %+v", v)
	}
	if v := views[1]; v.State != "no answer" || !v.Needs || !strings.Contains(v.Why, "check --ca, --cert and --key") &&
		!strings.Contains(v.Why, "certificate") {
		t.Errorf("a CA that is not the agent's: %+v", v)
	}
}
