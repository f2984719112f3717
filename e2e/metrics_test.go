package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"holdfast/testbed/demo"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMetrics: who has a token is told how a cluster stands, with the metrics of its store; nobody else is.
func TestMetrics(t *testing.T) {
	need.Real(t, built)
	l := standing(t, "none")
	c := client(t, l)
	if code, text := scrape(t, c, l, ""); code != http.StatusUnauthorized || strings.Contains(text, "holdfast_") {
		t.Errorf("without a token: %d: %.200s", code, text)
	}
	want := []string{
		"holdfast_resource_up 1", "holdfast_takeover_possible 1", `holdfast_takeover_proof{proof="deadline"} 1`, "holdfast_members_voting 3",
		`holdfast_host_up{host="h3"} 1`, `holdfast_source_success{source="member"} 1`, "etcd_server_has_leader 1", "process_open_fds ",
	}
	try.Until(t, "the cluster is told to be well", func() bool {
		code, text := scrape(t, c, l, l.Token)
		for _, w := range want {
			if code != http.StatusOK || !strings.Contains(text, "\n"+w) {
				t.Logf("%d, without %q", code, w)
				return false
			}
		}
		if failed := regexp.MustCompile(`\nholdfast_source_success\{[^}]*\} 0`).FindString(text); failed != "" {
			t.Logf("a source fails:%s", failed)
			return false
		}
		return true
	})
}

// client trusts the authority of a cluster.
func client(t *testing.T, l demo.Login) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(l.CA)
	try.Must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("%s has no certificate", l.CA)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// scrape asks a console for its metrics.
func scrape(t *testing.T, c *http.Client, l demo.Login, token string) (code int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(l.Console, "/")+"/metrics", nil)
	try.Must(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	try.Must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	try.Must(t, err)
	return resp.StatusCode, string(b)
}

// TestPrometheusScrapes runs Prometheus with the configuration of docs/metrics.md and the rules that are shipped.
func TestPrometheusScrapes(t *testing.T) {
	need.Drill(t, "Prometheus scrapes a cluster with a token, its rules are evaluated, and no alert of a cluster that is well fires", built,
		need.Programs("prometheus", "prometheus"))
	l := standing(t, "none")
	dir, at := t.TempDir(), freeAddr(t)
	rules, err := filepath.Abs("../packaging/prometheus/holdfast.rules.yml")
	try.Must(t, err)
	u, err := url.Parse(l.Console)
	try.Must(t, err)
	try.Must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(l.Token), 0o600))
	conf := fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
- job_name: holdfast
  scheme: https
  authorization: {credentials_file: %q}
  tls_config: {ca_file: %q}
  static_configs:
  - targets: [%q]
`, rules, filepath.Join(dir, "token"), l.CA, u.Host)
	file := filepath.Join(dir, "prometheus.yml")
	try.Must(t, os.WriteFile(file, []byte(conf), 0o600))
	cmd := exec.CommandContext(try.Context(t), "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+at)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	try.Must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it has ended, or ends
		if err := cmd.Wait(); err != nil {
			t.Errorf("prometheus: %v: %s", err, said.String())
		}
	}()
	try.Until(t, "Prometheus knows that it runs", func() bool { return len(query(t, at, `holdfast_resource_up == 1`)) == 1 })
	try.Until(t, "Prometheus knows the store", func() bool { return len(query(t, at, `etcd_server_has_leader == 1`)) == 1 })
	try.Until(t, "it has scraped some times", func() bool { return len(query(t, at, `count_over_time(holdfast_resource_up[1m]) > 5`)) == 1 })
	if bad := query(t, at, `ALERTS{alertstate="firing"}`); len(bad) > 0 {
		t.Errorf("alerts of a cluster that is well: %v", bad)
	}
	for _, r := range ruleHealth(t, at) {
		if r.Health != "ok" {
			t.Errorf("%s: %s: %s", r.Name, r.Health, r.LastError)
		}
	}
}

// freeAddr is an address of loopback where nobody listens now.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	try.Must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// query asks Prometheus; while it does not answer yet there is nothing.
func query(t *testing.T, at, expr string) []map[string]string {
	t.Helper()
	var a struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	prometheus(t, at, "query?query="+url.QueryEscape(expr), &a)
	var out []map[string]string
	for _, r := range a.Data.Result {
		out = append(out, r.Metric)
	}
	return out
}

// judged is what Prometheus says of a rule.
type judged struct{ Name, Health, LastError string }

func ruleHealth(t *testing.T, at string) (out []judged) {
	t.Helper()
	var a struct {
		Data struct {
			Groups []struct{ Rules []judged }
		}
	}
	prometheus(t, at, "rules", &a)
	for _, g := range a.Data.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) < 10 {
		t.Errorf("%d rules", len(out))
	}
	return out
}

func prometheus(t *testing.T, at, what string, into any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/api/v1/"+what, nil)
	try.Must(t, err)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil && resp.StatusCode == http.StatusOK {
		t.Fatal(err)
	}
}
