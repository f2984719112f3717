package ctbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb"
)

const (
	defaultRoot      = "/mnt/dbdata/remote"
	defaultNamespace = "cantian"
	kubectlLimit     = 30 * time.Second
	maxRows          = 100000 // of a table that is read
)

// Finder looks for the metadata of MySQL. Zero fields have defaults.
type Finder struct {
	MySQL      mariadb.Connection // for a MySQL on the host
	Dir        string             // for a file with its credentials, as long as it is asked
	Kubeconfig string             // for a MySQL in containers; empty: kubectl's own
	Namespace  string             // of its pods; default cantian
	Root       string             // directory of the shared file systems; default /mnt/dbdata/remote
}

// Found is a path that may be the one. An operator has to confirm it.
type Found struct {
	Path string `json:"path"`
	How  string `json:"how"` // for people
}

// Discover asks a MySQL on this host for its data directory, and Kubernetes for
// the volumes of the pods, whose directories it then looks for. What it finds is
// in order of names. It fails when neither way gives anything, with the reasons.
func (f Finder) Discover(ctx context.Context) ([]Found, error) {
	if f.Namespace == "" {
		f.Namespace = defaultNamespace
	}
	if f.Root == "" {
		f.Root = defaultRoot
	}
	var out []Found
	dir, onHost := mariadb.Datadir(ctx, f.MySQL, f.Dir)
	if onHost == nil {
		out = append(out, Found{Path: dir, How: "the data directory of MySQL on this host"})
	}
	more, inPods := f.pods(ctx)
	out = append(out, more...)
	if len(out) == 0 {
		return nil, fmt.Errorf("look for the metadata of MySQL: on the host: %w; in containers: %w", onHost, inPods)
	}
	slices.SortFunc(out, func(a, b Found) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func (f Finder) pods(ctx context.Context) ([]Found, error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, kubectlLimit)
	defer cancel()
	ask := func(args ...string) ([]byte, error) {
		c := backup.Command{Path: kubectl, Args: args}
		if f.Kubeconfig != "" {
			c.Env = []string{"KUBECONFIG=" + f.Kubeconfig}
		}
		return backup.Run(ctx, c)
	}
	text, err := ask("get", "pods", "-n", f.Namespace, "-owide")
	if err != nil {
		return nil, err
	}
	pods, err := ParsePods(text)
	if err != nil {
		return nil, err
	}
	if text, err = ask("get", "pvc", "-A"); err != nil {
		return nil, err
	}
	claims, err := ParseClaims(text)
	if err != nil {
		return nil, err
	}
	return f.match(pods, claims)
}

// match finds the directory of each claim of a pod.
func (f Finder) match(pods []Pod, claims []Claim) ([]Found, error) {
	systems, err := filepath.Glob(filepath.Join(f.Root, "metadata_*"))
	if err != nil {
		return nil, err
	}
	var out []Found
	wanted := 0
	for _, p := range pods {
		for _, c := range claims {
			if c.Namespace != f.Namespace || c.Status != "Bound" || c.Name != p.Name && !strings.HasSuffix(c.Name, "-"+p.Name) {
				continue
			}
			wanted++
			for _, s := range systems {
				path := filepath.Join(s, c.Namespace+"-"+c.Name+"-"+c.Volume, "mysql")
				info, err := os.Stat(path)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return nil, err
				}
				if info.IsDir() {
					out = append(out, Found{Path: path, How: fmt.Sprintf("the volume of claim %s of pod %s on %s", c.Name, p.Name, p.Node)})
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%d pods have %d volumes, and none of them has a directory below %s/metadata_*", len(pods), wanted, f.Root)
	}
	return out, nil
}

// Pod is a row of `kubectl get pods -owide`.
type Pod struct {
	Name, Status, IP, Node string
}

// Claim is a row of `kubectl get pvc -A`.
type Claim struct {
	Namespace, Name, Status, Volume string
}

// objectName is how Kubernetes names what we read: it becomes part of a path.
var objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// ParsePods reads the output of `kubectl get pods -n NAMESPACE -owide`. Lines before
// the header are left out; no header means no pods.
func ParsePods(text []byte) ([]Pod, error) {
	rows, err := table(text, []string{"NAME", "READY", "STATUS"}, nil)
	if err != nil {
		return nil, fmt.Errorf("read the list of pods: %w", err)
	}
	var out []Pod
	for _, r := range rows {
		p := Pod{Name: r["NAME"], Status: r["STATUS"], IP: r["IP"], Node: r["NODE"]}
		if !objectName.MatchString(p.Name) {
			return nil, fmt.Errorf("read the list of pods: %q is no name of a pod", p.Name)
		}
		out = append(out, p)
	}
	return out, nil
}

// ParseClaims reads the output of `kubectl get pvc -A`, with its header or without,
// as grep leaves it.
func ParseClaims(text []byte) ([]Claim, error) {
	rows, err := table(text, []string{"NAMESPACE", "NAME", "STATUS", "VOLUME"}, []string{"NAMESPACE", "NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "AGE"})
	if err != nil {
		return nil, fmt.Errorf("read the list of claims: %w", err)
	}
	var out []Claim
	for _, r := range rows {
		c := Claim{Namespace: r["NAMESPACE"], Name: r["NAME"], Status: r["STATUS"], Volume: r["VOLUME"]}
		if !objectName.MatchString(c.Namespace) || !objectName.MatchString(c.Name) || c.Status == "Bound" && !objectName.MatchString(c.Volume) {
			return nil, fmt.Errorf("read the list of claims: %q is no claim", c)
		}
		out = append(out, c)
	}
	return out, nil
}

// cell is a cell of a table: where it begins, in bytes, and what it says.
type cell struct {
	at   int
	text string
}

var gap = regexp.MustCompile(`(?:\t| {2,})[ \t]*`)

// cells takes a line apart at gaps of two spaces or more: one space is part of a
// cell, as in `1 (15m ago)`.
func cells(line string) []cell {
	var out []cell
	from := len(line) - len(strings.TrimLeft(line, " \t"))
	line = strings.TrimRight(line, " \t\r")
	for from < len(line) {
		end, next := len(line), len(line)
		if g := gap.FindStringIndex(line[from:]); g != nil {
			end, next = from+g[0], from+g[1]
		}
		out = append(out, cell{from, line[from:end]})
		from = next
	}
	return out
}

// table reads a table as kubectl prints it. The header begins with some columns;
// without it the columns are the default ones, if there are any.
func table(text []byte, begins, fallback []string) ([]map[string]string, error) {
	var header []cell
	var rows []map[string]string
	var loose [][]cell
	for line := range strings.Lines(string(text)) {
		c := cells(strings.TrimSuffix(line, "\n"))
		switch {
		case len(c) == 0:
			continue
		case header == nil && isHeader(c, begins):
			header = c
			continue
		case header == nil:
			loose = append(loose, c)
			continue
		}
		row, err := fit(header, c)
		if err != nil {
			return nil, fmt.Errorf("line %.80q: %w", line, err)
		}
		if rows = append(rows, row); len(rows) > maxRows {
			return nil, fmt.Errorf("more than %d lines", maxRows)
		}
	}
	if header != nil || fallback == nil {
		return rows, nil
	}
	for _, c := range loose {
		if len(c) != len(fallback) {
			return nil, fmt.Errorf("a line has %d columns in place of %d, and there is no header", len(c), len(fallback))
		}
		row := map[string]string{}
		for i, k := range fallback {
			row[k] = c[i].text
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func isHeader(c []cell, begins []string) bool {
	if len(c) < len(begins) {
		return false
	}
	for i, b := range begins {
		if c[i].text != b {
			return false
		}
	}
	return true
}

// fit puts cells below their headings. A row with all cells is taken in order; in
// one with fewer, some are empty, and each cell belongs to the heading above it.
func fit(header, row []cell) (map[string]string, error) {
	out := map[string]string{}
	if len(row) > len(header) {
		return nil, fmt.Errorf("it has %d columns, the header has %d", len(row), len(header))
	}
	for i, c := range row {
		if len(row) < len(header) {
			i = slices.IndexFunc(header, func(h cell) bool { return h.at == c.at })
			if i < 0 {
				return nil, fmt.Errorf("%q is below no heading", c.text)
			}
		}
		out[header[i].text] = c.text
	}
	return out, nil
}
