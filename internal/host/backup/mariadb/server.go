package mariadb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// Connection says where a server is and who asks. Without socket and address the
// server is searched for; without user and file the client programs' own
// configuration counts, which on most hosts lets root in.
type Connection struct {
	Socket   string           `json:"socket,omitempty"`   // path
	Address  string           `json:"address,omitempty"`  // IP address or name, in place of a socket
	Port     int              `json:"port,omitempty"`     // default 3306
	User     string           `json:"user,omitempty"`     // with Password
	Password backup.SecretRef `json:"password,omitempty"` // path of a file of mode 0600
	Defaults string           `json:"defaults,omitempty"` // option file of mode 0600, in place of User and Password
}

// answerLimit bounds one question to a server.
const answerLimit = 10 * time.Second

func (c Connection) check() error {
	switch {
	case c.Socket != "" && c.Address != "":
		return errors.New("socket and address: want one of them")
	case c.Socket != "" && !filepath.IsAbs(c.Socket):
		return fmt.Errorf("socket %q: want an absolute path", c.Socket)
	case c.Port < 0 || c.Port > 65535 || c.Port != 0 && c.Address == "":
		return fmt.Errorf("port %d: want 1 to 65535, with an address", c.Port)
	case c.Defaults != "" && (c.User != "" || c.Password != ""):
		return errors.New("defaults: want them or a user with a password")
	case c.User == "" && c.Password != "":
		return errors.New("password: want a user, too")
	case strings.HasPrefix(c.Address, "-") || strings.ContainsAny(c.User, "\n\r\x00"):
		return errors.New("address or user: not a name")
	}
	return nil
}

// arguments are those that every client program takes.
func (c Connection) arguments(defaults string) []string {
	var a []string
	if defaults != "" {
		a = append(a, "--defaults-extra-file="+defaults) // has to be the first
	}
	switch {
	case c.Socket != "":
		a = append(a, "--protocol=socket", "--socket="+c.Socket)
	case c.Address != "":
		port := c.Port
		if port == 0 {
			port = 3306
		}
		a = append(a, "--protocol=tcp", "--host="+c.Address, "--port="+strconv.Itoa(port))
	}
	return a
}

// server is a server that has answered.
type server struct {
	at       Connection
	datadir  string // without a slash at its end
	version  string
	client   string // program
	args     []string
	defaults string // ours, to be removed; or the operator's
	ours     bool
	hold     *backup.Lock
}

// open finds the server and asks who it is.
func open(ctx context.Context, c Connection, q backup.Request, lock *backup.Lock) (s *server, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s = &server{hold: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.client, err = program("mariadb", "mysql"); err != nil {
		return s, err
	}
	if err := s.credentials(c, q.Path(cnf)); err != nil {
		return s, err
	}
	candidates := []Connection{c}
	if c.Socket == "" && c.Address == "" {
		paths, err := sockets()
		if err != nil {
			return s, err
		}
		for _, p := range paths {
			other := c
			other.Socket = p
			candidates = append(candidates, other)
		}
	}
	return s, s.find(ctx, candidates)
}

// Datadir finds the server and gives its data directory. dir is for a file with
// credentials, as long as it asks.
func Datadir(ctx context.Context, c Connection, dir string) (string, error) {
	s, err := open(ctx, c, backup.Request{ID: "find-" + strconv.Itoa(os.Getpid()), Dir: dir}, nil)
	if err != nil {
		return "", fmt.Errorf("ask the database for its data directory: %w", err)
	}
	return s.datadir, s.close()
}

// credentials chooses the option file. Passwords never become arguments: every
// process of the host can read those.
func (s *server) credentials(c Connection, path string) error {
	switch {
	case c.Defaults != "":
		if err := backup.CheckPrivate(c.Defaults); err != nil {
			return fmt.Errorf("read the option file: %w", err)
		}
		s.defaults = c.Defaults
		return nil
	case c.User == "":
		return nil
	}
	text := "[client]\nuser=" + quote(c.User) + "\n"
	if c.Password != "" {
		secret, err := c.Password.Read()
		if err != nil {
			return err
		}
		text += "password=" + quote(secret) + "\n"
	}
	if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the option file: %w", err)
	}
	s.defaults, s.ours = path, true
	return nil
}

// quote writes a value of an option file.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (s *server) close() error {
	if !s.ours {
		return nil
	}
	s.ours = false
	return backup.Discard(s.defaults)
}

// find takes the one server that answers. The first candidate, which is what the
// operator or the client's configuration says, counts alone if it answers.
func (s *server) find(ctx context.Context, candidates []Connection) error {
	found := map[string]server{} // by data directory
	var refused []error
	var where []string
	for i, c := range candidates {
		t := *s
		t.at, t.args = c, c.arguments(s.defaults)
		if err := t.identify(ctx); err != nil {
			refused = append(refused, err)
			continue
		}
		if _, known := found[t.datadir]; known {
			continue // one server at two sockets
		}
		found[t.datadir], where = t, append(where, c.Socket)
		if i == 0 {
			break
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no server answers: %w", errors.Join(refused...))
	case 1:
		for _, t := range found {
			*s = t
		}
		return nil
	}
	return fmt.Errorf("%d servers answer, at %s: say which, with `socket`", len(found), strings.Join(where, " and "))
}

// identify asks the server for its data directory and version.
func (s *server) identify(ctx context.Context) error {
	rows, err := s.query(ctx, "SELECT @@datadir, @@version")
	if err != nil {
		return err
	}
	if len(rows) != 1 || len(rows[0]) != 2 || !filepath.IsAbs(rows[0][0]) {
		return fmt.Errorf("the server says %q of itself", rows)
	}
	s.datadir, s.version = filepath.Clean(rows[0][0]), rows[0][1]
	return nil
}

// query asks, and gives rows of columns.
func (s *server) query(ctx context.Context, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	args := append(slices.Clone(s.args), "--batch", "--skip-column-names", "--connect-timeout=5", "--execute="+sql)
	out, err := backup.Run(ctx, backup.Command{Path: s.client, Args: args})
	if err != nil {
		return nil, fmt.Errorf("ask the database: %w", err)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i := range cells {
			cells[i] = unescape.Replace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows, nil
}

// unescape undoes what the client does to values in its batch form.
var unescape = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00")

// databases are those of users, and mysql, which has the accounts.
func (s *server) databases(ctx context.Context) ([]string, error) {
	rows, err := s.query(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN "+
		"('information_schema','performance_schema','sys') ORDER BY 1")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rows {
		out = append(out, r[0])
	}
	return out, nil
}

// sockets are paths at which a server may listen: the usual ones, and those of
// this network namespace whose name tells of a database.
func sockets() ([]string, error) {
	out := []string{"/run/mysqld/mysqld.sock", "/var/run/mysql/mysql.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for sockets: %w", err)
	}
	for _, p := range listening(b) {
		low := strings.ToLower(p)
		if !strings.Contains(low, "mysql") && !strings.Contains(low, "maria") {
			continue
		}
		out = append(out, p)
	}
	var there []string
	var seen []os.FileInfo
	for _, p := range out {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Type() != fs.ModeSocket ||
			slices.ContainsFunc(seen, func(i os.FileInfo) bool { return os.SameFile(i, info) }) {
			continue // a path that is not there is no candidate
		}
		there, seen = append(there, p), append(seen, info)
	}
	return there, nil
}

// listening reads the paths of stream sockets that accept connections from
// /proc/net/unix.
func listening(table []byte) []string {
	const acceptsConnections = 1 << 16
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[4] != "0001" || !filepath.IsAbs(f[7]) {
			continue
		}
		if flags, err := strconv.ParseUint(f[3], 16, 32); err == nil && flags&acceptsConnections != 0 {
			out = append(out, strings.Join(f[7:], " "))
		}
	}
	return out
}
