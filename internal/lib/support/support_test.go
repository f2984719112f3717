package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLooksLikeASecret: what has no name of a file of ours.
func TestLooksLikeASecret(t *testing.T) {
	const s = "Hunter2-x"
	r := NewRedactor(nil)
	for text, want := range map[string]string{
		`{"password":"` + s + `","user":"op"}`: `{"password":"[removed]","user":"op"}`,
		`{"msg":"{\"bmc_password\": \"` +
			s + `\"}"}`: `{"msg":"{\"bmc_password\": \"[removed]\"}"}`,
		`db_passwd=` + s + ` host=h1`: `db_passwd=[removed] host=h1`,
		`<graphics type='vnc' passwd='` +
			s + `' port='5900'>`: `<graphics type='vnc' passwd='[removed]' port='5900'>`,
		`<graphics passwdValidTo='2026-01-01' port='1'/>`:          `<graphics passwdValidTo='2026-01-01' port='1'/>`,
		`<secret type='ceph' uuid='1-2'/>`:                         `<secret type='ceph' uuid='1-2'/>`,
		`<rootPassword>` + s + `</rootPassword>`:                   `<rootPassword>[removed]</rootPassword>`,
		`mysql://root:` + s + `@10.0.0.1/nova`:                     `mysql://root:[removed]@10.0.0.1/nova`,
		removed + `:` + s + `@tcp(10.0.0.1:3306)/`:                 removed + `:[removed]@tcp(10.0.0.1:3306)/`,
		`root:` + s + `@tcp(10.0.0.1:3306)/`:                       `root:[removed]@tcp(10.0.0.1:3306)/`,
		`--source holdfast:p@` + s + `:w/rd@tcp(10.0.0.1:3306)/ x`: `--source holdfast:[removed]@tcp(10.0.0.1:3306)/ x`,
		`ipmitool --password ` + s + ` power`:                      `ipmitool --password [removed] power`,
		`["ipmitool", "--password", "` +
			s + `"]`: `["ipmitool", "--password", "[removed]"]`,
		`CREATE USER a@b IDENTIFIED BY '` +
			s + `'`: `CREATE USER a@b IDENTIFIED BY '[removed]'`,
		`{"msg":"near \"ALTER USER a IDENTIFIED VIA ed25519 USING PASSWORD('` +
			s + `') REQUIRE SSL\""}`: `{"msg":"near \"ALTER USER a IDENTIFIED VIA ed25519 USING PASSWORD('[removed]') REQUIRE SSL\""}`,
		`GRANT ALL ON *.* TO a@'%' identified by PASSWORD '*` +
			s + `' WITH GRANT OPTION`: `GRANT ALL ON *.* TO a@'%' identified by PASSWORD '[removed]' WITH GRANT OPTION`,
		`SET PASSWORD FOR a@b = PASSWORD("` + s + `")`:           `SET PASSWORD FOR a@b = PASSWORD("[removed]")`,
		`set password for 'a'@'b'='` + s + `';`:                  `set password for 'a'@'b'='[removed]';`,
		`sshpass -p` + s + ` ssh root@h`:                         `sshpass -p[removed] ssh root@h`,
		`sshpass -p ` + s + ` ssh root@h`:                        `sshpass -p [removed] ssh root@h`,
		`["mariadb", "-uroot", "-p` + s + `", "-e", "SELECT 1"]`: `["mariadb", "-uroot", "-p[removed]", "-e", "SELECT 1"]`,
		`curl -s -u op:` + s + ` https://h1/`:                    `curl -s -u op:[removed] https://h1/`,
		`ldapsearch -D cn=a -w ` + s + ` -b x`:                   `ldapsearch -D cn=a -w [removed] -b x`,
		`virsh secret-set-value --secret 5 --base64 ` + s:        `virsh secret-set-value --secret [removed] --base64 [removed]`,
		`virsh secret-set-value 0b8f9d2e-1111-2222-3333-444455556666 ` +
			s + `==`: `virsh secret-set-value 0b8f9d2e-1111-2222-3333-444455556666 [removed]`,
		`echo ` + s + ` | passwd --stdin root`:                           `echo [removed] | passwd --stdin root`,
		`echo "root:` + s + `" | sudo /usr/sbin/chpasswd`:                `echo [removed] | sudo /usr/sbin/chpasswd`,
		`password is ` + s:                                               `password is [removed]`,
		`the password was "` + strings.ReplaceAll(s, "2", "") + `", now`: `the password was "[removed]", now`,
		`its password is wrong, and a password is not set`:               `its password is wrong, and a password is not set`,
		`Authorization: Basic ` + s:                                      `Authorization: [removed]`,
		`-object {"qom-type":"secret","id":"k","data":"YWJjZGVmZw=="}`:   `-object {"qom-type":"secret","id":"k","data":"[removed]"}`,
		"	key = AQBSdFhnAAAAABAAKk1Jv8bK3fY2yXc0wq1h7Q==":                "	key = [removed]",
		`root:$6$salt$` + s + `:19000`:                                   `root:[removed]:19000`,
		`密码: ` + s:                                                       `密码: [removed]`,
		`密码：` + s:                                                        `密码：[removed]`,
		`snmpwalk -v3 -u x -A ` + s + ` -X x` + s + ` 1.2.3.4`:           `snmpwalk -v3 -u x -A [removed] -X [removed] 1.2.3.4`,
		`{"community":"` + s + `"}`:                                      `{"community":"[removed]"}`,
		`wsrep_sst_auth=sst:` + s:                                        `wsrep_sst_auth=[removed]`,
		`{"admin_pass": ["` + s + `", "x` + s + `"], "a": ["b"]}`:        `{"admin_pass": [removed], "a": ["b"]}`,
		`create user a identified by 'a''b ` + s + `'`:                   `create user a identified by '[removed]'`,
		`chpasswd <<< root:` + s:                                         `chpasswd <<< [removed]`,
		`rndc secret "` + s + `";`:                                       `rndc secret "[removed]";`,
		`secret_key: !!str ` + s:                                         `secret_key: !!str [removed]`,
		`Cookie: session=` + s:                                           `Cookie: [removed]`,
		`the password of root is: ` + s:                                  `the password of root is: [removed]`,
		`[client.admin] key = ` + s:                                      `[client.admin] key = [removed]`,
		`pwd=` + s + ` h1`:                                               `pwd=[removed]`,
		`PWD: ` + s:                                                      `PWD: [removed]`,
		`PWD=` + s + ` ;`:                                                `PWD=[removed]`,
		`{"pwd":"` + s + `"}`:                                            `{"pwd":"[removed]"}`,
		`pass=` + s + `, x=1`:                                            `pass=[removed], x=1`,
		`db_pass=` + s:                                                   `db_pass=[removed]`,
		`db-pass: ` + s:                                                  `db-pass: [removed]`,
		`{"dbPass": "` + s + `", "userPwd":"` + s + `"}`:                 `{"dbPass": "[removed]", "userPwd":"[removed]"}`,
		`openssl rsa -passin pass:` + s:                                  `openssl rsa -passin pass:[removed]`,
		`tool --pass ` + s + ` -x`:                                       `tool --pass [removed] -x`,
		`tool --db-pass "a ` + s + `" -x`:                                `tool --db-pass "[removed]" -x`,
		`<pwd>` + s + `</pwd>`:                                           `<pwd>[removed]</pwd>`,
		`<dbPass>` + s + `</dbPass>`:                                     `<dbPass>[removed]</dbPass>`,
		`zsha install -p ` + s + ` -c /tmp/c.json`:                       `zsha install -p [removed] -c /tmp/c.json`,
		`/usr/bin/zsha install -c /f -p'a ` + s + `' --check`:            `/usr/bin/zsha install -c /f -p[removed] --check`,
		`["zsha", "install", "-p", "` + s + `", "-c", "/f"]`:             `["zsha", "install", "-p", [removed], "-c", "/f"]`,
		`ms_recovery.sh 10.0.0.2 ` + s:                                   `ms_recovery.sh 10.0.0.2 [removed]`,
		`COMMAND=/usr/sbin/ms_recovery.sh 10.0.0.2 ` + s + ` 'b ` + s + `'` +
			"\nnext line": "COMMAND=/usr/sbin/ms_recovery.sh 10.0.0.2 [removed] [removed]\nnext line",
		`["/usr/sbin/ms_recovery.sh","10.0.0.2","` + s + `","x` +
			s + `"]`: `["/usr/sbin/ms_recovery.sh","10.0.0.2",[removed],[removed]]`,
		"ms_recovery.sh 10.0.0.2\nwent well":     "ms_recovery.sh 10.0.0.2\nwent well",
		`ms_recovery.sh asks for both passwords`: `ms_recovery.sh asks for both passwords`,
		`root:a b ` + s + `@tcp(10.0.0.1:3306)/`: `root:[removed]@tcp(10.0.0.1:3306)/`,
		`Nov 28 10:00:00 h1 holdfast[7]: 2026-01-01T10:00:00 connect to root:a ` +
			s + `@unix(/s)/`: `Nov 28 10:00:00 h1 holdfast[7]: 2026-01-01T10:00:00 connect to root:[removed]@unix(/s)/`,
		`{"a":"x:y","source":"op:a ` +
			s + ` b@tcp(h1)/"}`: `{"a":"x:y","source":"op:[removed]@tcp(h1)/"}`,
		`sshpass -p 'a ` + s + `' ssh root@h`:           `sshpass -p [removed] ssh root@h`,
		`mysql -uroot -p"a ` + s + `" -e x`:             `mysql -uroot -p[removed] -e x`,
		`{"cmd":"mysql -uroot -p\"a ` + s + `\" -e x"}`: `{"cmd":"mysql -uroot -p[removed] -e x"}`,
		`{"cmd":"mysql -uroot -p","x":"y"}`:             `{"cmd":"mysql -uroot -p","x":"y"}`,
		`mariabackup --backup -p` + s:                   `mariabackup --backup -p[removed]`,
		`mysqladmin -u root password ` + s:              `mysqladmin -u root password [removed]`,
		`ipmitool -U a -P 'x ` + s + `' power`:          `ipmitool -U a -P [removed] power`,
		`["ipmitool", "-U", "a", "-P", "` + s + `"]`:    `["ipmitool", "-U", "a", "-P", [removed]]`,
		`curl -su 'op:a ` + s + `' https://h1/`:         `curl -su 'op:[removed]' https://h1/`,
		`curl --proxy-user op:` + s + ` https://h1/`:    `curl --proxy-user op:[removed] https://h1/`,
		`iscsiadm -m node -o update -n node.session.auth.password -v ` +
			s: `iscsiadm -m node -o update -n node.session.auth.password -v [removed]`,
		`rabbitmqctl change_password nova ` +
			s: `rabbitmqctl change_password nova [removed]`,
		`root : TTY=pts/0 ; PWD=/root ; USER=root`:                                                    `root : TTY=pts/0 ; PWD=/root ; USER=root`,
		`{"PWD":"/root","OLDPWD":"/tmp"}`:                                                             `{"PWD":"/root","OLDPWD":"/tmp"}`,
		`pass option file, passed: 3, bypass: on, compass=1, a two-pass scan, config file check pass`: `pass option file, passed: 3, bypass: on, compass=1, a two-pass scan, config file check pass`,
		`sshpass -p ` + s + ` ssh -p 22 root@h; mysql -p` + s + ` x; mysql -p` +
			s: `sshpass -p [removed] ssh -p 22 root@h; mysql -p[removed] x; mysql -p[removed]`,
		`ipmitool -H h -p 623 -P ` + s + ` power`:                               `ipmitool -H h -p 623 -P [removed] power`,
		`fence_ipmilan -P -p ` + s + ` -l a`:                                    `fence_ipmilan -P -p [removed] -l a`,
		`curl -u op:` + s + ` -U op:x` + s + ` https://h1/`:                     `curl -u op:[removed] -U op:[removed] https://h1/`,
		`"Credential": "file:/etc/holdfast/vnc"`:                                `"Credential": "file:/etc/holdfast/vnc"`,
		`"credentials_file": "/etc/holdfast/answers"`:                           `"credentials_file": "/etc/holdfast/answers"`,
		"a -----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- b": "a [removed] b",
		"-----BEGIN PRIVATE KEY-----\nMHc":                                      "[removed]",
		"MHcAAA\nBBB\n-----END RSA PRIVATE KEY-----\nx":                         "[removed]-----END RSA PRIVATE KEY-----\nx",
		"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----":           "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
		"nothing: to remove, 5 secrets, tokens and passwords":                   "nothing: to remove, 5 secrets, tokens and passwords",
	} {
		if got := string(r.Pass([]byte(text))); got != want {
			t.Errorf("%s\n gives %s\n want  %s", text, got, want)
		}
	}
}

// TestKnownSecretsAreRemovedInEachForm also from the middle of words, and short ones.
func TestKnownSecretsAreRemovedInEachForm(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	const odd = `a"b<c>&d\e f`
	known, trouble := SecretsOf(file("vnc", "xyz\n"), file("bmc", odd+"\n"),
		file("answers", "secrets: {root: 'opensesame'}\n# password: notme\n"),
		file("key", "-----BEGIN PRIVATE KEY-----\nQUJDREVGR0g\n-----END PRIVATE KEY-----\n"), file("ring", "[client]\n\tkey = ringring==\n"),
		file("my.cnf", "[client]\nhost = localhost\nuser     = root\npassword = mycnfword\n"), filepath.Join(dir, "none"), dir)
	if len(trouble) != 1 || !strings.Contains(trouble[0], dir+" are not known") {
		t.Errorf("trouble %q", trouble)
	}
	if s := fmt.Sprintf("%v %s %d", known, known, len(known)); strings.Contains(s, "xyz") || strings.Contains(s, "opensesame") {
		t.Errorf("printed: %s", s)
	}
	known = append(known, SecretsIn([]string{"HOME=/root", "DB_PASSWORD=fromtheenv", "PATH=/bin", "TOKEN="})...)
	r := NewRedactor(known)
	for text, want := range map[string]string{
		"vnc xyz, wxyz":                                "vnc [removed], wxyz",
		"it is " + odd + "!":                           "it is [removed]!",
		`"a\"b\u003cc\u003e\u0026d\\e f"`:              `"[removed]"`,
		"p=a%22b%3Cc%3E%26d%5Ce+f":                     "p=[removed]",
		"a&#34;b&lt;c&gt;&amp;d\\e f":                  "[removed]",
		base64.StdEncoding.EncodeToString([]byte(odd)): "[removed]",
		"xopensesamex QUJDREVGR0g ringring== /bin":     "x[removed]x [removed] [removed] /bin",
		"root:mycnfword@tcp(localhost:3306)/":          "root:[removed]@tcp(localhost:3306)/",
		"fromtheenv notme":                             "[removed] notme",
	} {
		if got := string(r.Pass([]byte(text))); got != want {
			t.Errorf("%s\n gives %s\n want  %s", text, got, want)
		}
	}
}

// TestWordsAreNoSecrets: in a file with names only those count that sound like secrets; users, hosts and prompts
// do not, nor does what a name refers to.
func TestWordsAreNoSecrets(t *testing.T) {
	for text, want := range map[string][]Secret{
		"# by the package\n[client]\nhost     = localhost\nuser     = root\npassword = \nsocket   = /run/s\n[b]\nbasedir = /usr\n": nil,
		"[client]\nuser=admin\npassword=\"pw#1;x\"\n[mysqldump]\nsingle-transaction\n": {
			"pw#1;x"},
		"[client.admin]\n\tkey = AQBSdA==\n\tcaps mds = \"allow *\"\n\tcaps mon = \"profile rbd\"\n": {
			"AQBSdA=="},
		"  name \"ipmisim1\"\n  startlan 1\n  user 2 true \"ipmiusr\" \"hunter22\" admin 10 none\n": {
			"hunter22"},
		"secrets: {array: \"pw of it\", system: other}\nexpect:\n- {regexp: '(?i)user', text: admin}\n" +
			"- {regexp: pwd, secret: array, times: 2}\n- {regexp: pwd, secret: system}\n": {"pw of it", "other"},
		"secrets:\n  array: pw of it\n  multi: |\n    one line\nexpect:\n- text: admin\n": {"pw of it", "one line"},
		"user: op\npwd: hunter22\ndbPass: hunter23\nbypass: yes indeed\n":                 {"hunter22", "hunter23"},
		"root\n":                 {"root"},
		"pass: word\n":           {"pass: word", "word"},
		"QUJDREVG\nR0hJSktM\n":   {"QUJDREVG", "R0hJSktM"},
		"QUJDREVGR0g=\nQUJD==\n": {"QUJDREVGR0g=", "QUJD=="},
	} {
		got := secretsOfText(text)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%q: %q is not among %d", text, string(w), len(got))
			}
		}
		for _, g := range got {
			more := slices.ContainsFunc(want, func(w Secret) bool { return strings.Contains(string(g), string(w)) })
			if !more && strings.TrimSpace(text) != string(g) {
				t.Errorf("%q: %q is taken for a secret", text, string(g))
			}
		}
	}
	env := []string{"SSH_ASKPASS=/usr/bin/ask", "PWD=/root", "MYSQL_PWD=hunter2", "BYPASS=true", "DB_PASS=hunter3",
		"PASS=hunter4", "dbPass=hunter5", "OLDPWD=/tmp", "ROOTPW=hunter6", "REDISCLI_AUTH=hunter7"}
	if got := SecretsIn(env); !slices.Equal(got, []Secret{"hunter2", "hunter3", "hunter4", "hunter5", "hunter6", "hunter7"}) {
		t.Errorf("%d secrets", len(got))
	}
}

func said(text string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// unpacked is what an archive has, by name.
func unpacked(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || h.Mode != 0o600 {
			t.Fatalf("%s: mode %o, %v", h.Name, h.Mode, err)
		}
		out[strings.TrimPrefix(h.Name, "r/")] = string(text)
	}
}

// TestAPartThatHangs is named, and what it has written is there.
func TestAPartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		defer close(stuck)
		var b bytes.Buffer
		_, err := Write(t.Context(), &b, Options{Name: "r", Within: 10 * time.Second, All: time.Minute, Most: 1024,
			Total: 3000, Now: time.Unix(1e9, 0), Parts: []Part{
				{Name: "hangs", Get: func(ctx context.Context, w io.Writer) error {
					if err := said("before\n")(ctx, w); err != nil {
						return err
					}
					<-stuck
					return nil
				}},
				{Name: "good", Get: said("it is there\n")},
			}})
		if err != nil {
			t.Fatal(err)
		}
		got := unpacked(t, b.Bytes())
		if got["hangs"] != "before\n" || got["good"] != "it is there\n" ||
			!strings.Contains(got[indexName], "hangs: not complete: it does not answer in time") {
			t.Errorf("%q", got)
		}
	})
}

// TestAProgramThatHangs is ended, and what it has printed is there.
func TestAProgramThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Output("sleeps", false, "sh", "-c", "echo begun; exec sleep 600").Get(ctx, w) }()
	said := make([]byte, len("begun\n"))
	if _, err := io.ReadFull(r, said); err != nil || string(said) != "begun\n" {
		t.Errorf("%q, %v", said, err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "sh does not end") {
		t.Errorf("got %v", err)
	}
}

// TestArchive: what fails or is too much is named, and all else is there.
func TestArchive(t *testing.T) {
	lines := strings.Repeat("0123456789 line\n", 200)
	o := Options{
		Name: "r", Within: time.Hour, All: time.Hour, Most: 1024, Total: 3000, Now: time.Unix(1e9, 0),
		Known: []Secret{"Hunter2-x"}, Notes: []string{"a note on Hunter2-x"},
		Parts: []Part{
			{Name: "good", Get: said("it is Hunter2-x\n")},
			{Name: "fails", Get: func(context.Context, io.Writer) error { return errors.New("no way with\nHunter2-x") }},
			{Name: "empty", Get: said("")},
			{Name: "head", Get: said(lines)},
			{Name: "tail", Tail: true, Get: said(lines + "the end\n")},
			{Name: "toomuch", Get: said(lines)},
			Output("none", false, "/no/such/program"),
			Output("wrong", false, "sh", "-c", "echo half; echo because >&2; exit 3"),
		},
	}
	var b bytes.Buffer
	entries, err := Write(t.Context(), &b, o)
	if err != nil {
		t.Fatal(err)
	}
	got := unpacked(t, b.Bytes())
	for name, want := range map[string]string{
		"good": "it is [removed]\n", "fails": "", "empty": "", "none": "", "toomuch": "", "wrong": "half\n",
		"head": lines[:1024], "tail": (lines + "the end\n")[len(lines)+8-1016:],
	} {
		if got[name] != want {
			t.Errorf("%s: %d bytes %.40q, want %d: %.40q", name, len(got[name]), got[name], len(want), want)
		}
	}
	for _, want := range []string{
		"fails: not available: no way with [removed]", "empty: empty", "head: the end is left out", "tail: the beginning is left out",
		"toomuch: left out", "none: not available: ", "wrong: not complete: exit status 3: because", "a note on [removed]",
	} {
		if !strings.Contains(got[indexName], want) {
			t.Errorf("the index does not say %q:\n%s", want, got[indexName])
		}
	}
	if len(entries) != len(o.Parts) || entries[0].Why != "" {
		t.Errorf("%+v", entries)
	}
}

// TestSecretOnTheBorder: no half of a secret stays where a part is cut.
func TestSecretOnTheBorder(t *testing.T) {
	for tail := range 2 {
		for n := range 64 {
			line := strings.Repeat("x", n) + "Hunter2-x" + strings.Repeat("y", 40) + "\n"
			o := Options{Name: "r", Within: time.Minute, All: time.Minute, Most: 300, Total: 1000,
				Known: []Secret{"Hunter2-x"}, Parts: []Part{{Name: "p", Tail: tail == 1, Get: said(strings.Repeat(line, 40))}}}
			texts, _ := collect(t.Context(), o)
			if text := string(texts[0]); text == "" || strings.Contains(text, "Hunt") ||
				strings.Contains(text, "er2-x") || strings.Contains(strings.ReplaceAll(text, removed, ""), "2-x") {
				t.Fatalf("tail %d, %d: %q", tail, n, text)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	put := func(name, text string, age time.Duration) {
		t.Helper()
		var b bytes.Buffer
		b.WriteString(text)
		if strings.HasSuffix(name, ".gz") {
			b.Reset()
			z := gzip.NewWriter(&b)
			if _, err := z.Write([]byte(text)); err != nil || z.Close() != nil {
				t.Fatal(err)
			}
		}
		p := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(p, b.Bytes(), 0o600), os.Chtimes(p, now, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	put("a.log", "newest\n", 0)
	put("a-1.log.gz", "packed\n", time.Hour)
	put("a-2.log", "third\n", 2*time.Hour)
	put("a-3.log", "old\n", 48*time.Hour)
	var got []string
	for _, p := range Files("log", filepath.Join(dir, "*.log*"), now.Add(-24*time.Hour), 2) {
		var b bytes.Buffer
		if err := p.Get(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Name+" "+strings.TrimSpace(b.String()))
	}
	if s := strings.Join(got, ", "); s != "log/a.log newest, log/a-1.log packed" {
		t.Errorf("got %s", s)
	}
	if err := copyFile(io.Discard, dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
}
