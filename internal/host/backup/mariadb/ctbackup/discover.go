package ctbackup

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb"
	"holdfast/internal/lib/text"
)

const (
	// remote is where the engine's shared file systems are mounted, and pods is the namespace of
	// MySQL's containers, as the product installs them.
	remote       = "/mnt/dbdata/remote"
	podsIn       = "cantian"
	kubectlLimit = 30 * time.Second
	maxRows      = 100000 // of a table that is read
)

// Complete gives the options of a backup by ctbackup the path of MySQL's metadata, where the
// upgrade makes the backup and nobody has given it. how says for people how it was found, ""
// when it was not looked for. As the product's guide says, a MySQL at an address of the host
// itself is asked for its data directory; of one in a container the address is that of a
// pod, whose volume has a directory on a shared file system.
func Complete(ctx context.Context, q backup.Request) (json.RawMessage, string, error) {
	return complete(ctx, q, remote)
}

func complete(ctx context.Context, q backup.Request, root string) (options json.RawMessage, how string, err error) {
	var o Options
	if err := q.Check(&o); err != nil {
		return nil, "", err
	}
	if o.Choice != During || o.MetadataPath != "" {
		return q.Options, "", nil
	}
	if ip := net.ParseIP(o.Address); ip != nil && ip.IsLoopback() {
		c := mariadb.Connection{Address: o.Address, Port: o.Port, User: o.User, Password: o.Password}
		o.MetadataPath, err = mariadb.Datadir(ctx, c, q.Dir)
		how = "the data directory of MySQL at " + o.Address
	} else {
		o.MetadataPath, how, err = inPod(ctx, o.Address, root)
	}
	if err == nil {
		options, err = json.Marshal(o)
	}
	if err != nil {
		return nil, "", fmt.Errorf("look for the metadata of MySQL, since the setting metadataPath does not name it: %w", err)
	}
	return options, fmt.Sprintf("the metadata of MySQL is in %s: %s", o.MetadataPath, how), nil
}

// inPod looks for the directory of the volume of the pod with an address.
func inPod(ctx context.Context, address, root string) (path, how string, err error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, kubectlLimit)
	defer cancel()
	text, err := backup.Run(ctx, backup.Command{Path: kubectl, Args: []string{"get", "pods", "-n", podsIn, "-owide"}})
	if err != nil {
		return "", "", err
	}
	pods, err := ParsePods(text)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(pods, func(p Pod) bool { return p.IP == address })
	if i < 0 {
		return "", "", fmt.Errorf("of the %d pods of namespace %s none has the address %s", len(pods), podsIn, address)
	}
	if text, err = backup.Run(ctx, backup.Command{Path: kubectl, Args: []string{"get", "pvc", "-A"}}); err != nil {
		return "", "", err
	}
	claims, err := ParseClaims(text)
	if err != nil {
		return "", "", err
	}
	found, err := directories(pods[i], claims, root)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("volumes of pod %s have %d directories below %s/metadata_*, want one: %s", pods[i].Name,
			len(found), root, strings.Join(found, ", "))
	}
	if err != nil {
		return "", "", err
	}
	return found[0], fmt.Sprintf("the volume of pod %s on %s", pods[i].Name, pods[i].Node), nil
}

// directories are those of the claims of a pod.
func directories(p Pod, claims []Claim, root string) (out []string, err error) {
	for _, c := range claims {
		if c.Namespace != podsIn || c.Status != "Bound" || c.Name != p.Name && !strings.HasSuffix(c.Name, "-"+p.Name) {
			continue
		}
		// No part of the names of objects stands for anything in a pattern.
		found, err := filepath.Glob(filepath.Join(root, "metadata_*", c.Namespace+"-"+c.Name+"-"+c.Volume, "mysql"))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
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
var objectName = text.Pattern(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

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
		if !objectName().MatchString(p.Name) {
			return nil, fmt.Errorf("read the list of pods: %q is no name of a pod", p.Name)
		}
		out = append(out, p)
	}
	return out, nil
}

// ParseClaims reads the output of `kubectl get pvc -A`, with its header or without,
// as grep leaves it.
func ParseClaims(text []byte) ([]Claim, error) {
	rows, err := table(text, []string{"NAMESPACE", "NAME", "STATUS", "VOLUME"},
		[]string{"NAMESPACE", "NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "AGE"})
	if err != nil {
		return nil, fmt.Errorf("read the list of claims: %w", err)
	}
	var out []Claim
	for _, r := range rows {
		c := Claim{Namespace: r["NAMESPACE"], Name: r["NAME"], Status: r["STATUS"], Volume: r["VOLUME"]}
		if !objectName().MatchString(c.Namespace) || !objectName().MatchString(c.Name) || c.Status == "Bound" &&
			!objectName().MatchString(c.Volume) {
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

var gap = text.Pattern(`(?:\t| {2,})[ \t]*`)

// cells takes a line apart at gaps of two spaces or more: one space is part of a
// cell, as in `1 (15m ago)`.
func cells(line string) []cell {
	var out []cell
	from := len(line) - len(strings.TrimLeft(line, " \t"))
	line = strings.TrimRight(line, " \t\r")
	for from < len(line) {
		end, next := len(line), len(line)
		if g := gap().FindStringIndex(line[from:]); g != nil {
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
