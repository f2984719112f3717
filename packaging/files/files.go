// Package files has what lies on a host beside the program: the unit of the agent,
// directories, completion for shells and manual pages. Packages and the installer
// write the same files, from here.
package files

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// Program is where the program lies on a host. Upgrades of Holdfast by Holdfast swap
// its directory.
const Program = "/opt/holdfast/bin/holdfast"

// Link leads to Program.
const Link = "/usr/bin/holdfast"

//go:embed holdfast.service
var unit []byte

//go:embed holdfast-console.service
var console []byte

//go:embed holdfast.tmpfiles
var tmpfiles []byte

// File is one file or symbolic link of a host.
type File struct {
	Path    string      // absolute
	Mode    fs.FileMode // permissions; 0 of a link
	Content []byte
	Target  string // of a symbolic link
}

// All returns the files beside the program, which has the commands below root, and, called by the source tool's
// name, those below zsha.
func All(root, zsha *cobra.Command) ([]File, error) {
	all := []File{
		{Path: "/usr/lib/systemd/system/holdfast.service", Mode: 0o644, Content: unit},
		{Path: "/usr/lib/systemd/system/holdfast-console.service", Mode: 0o644, Content: console},
		{Path: "/usr/lib/tmpfiles.d/holdfast.conf", Mode: 0o644, Content: tmpfiles},
		{Path: Link, Target: Program},
	}
	for _, c := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{"/usr/share/bash-completion/completions/holdfast", func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"/usr/share/zsh/vendor-completions/_holdfast", root.GenZshCompletion},
		{"/usr/share/fish/vendor_completions.d/holdfast.fish", func(w io.Writer) error { return root.GenFishCompletion(w, true) }},
	} {
		var text bytes.Buffer
		if err := c.write(&text); err != nil {
			return nil, fmt.Errorf("generate %s: %w", c.path, err)
		}
		all = append(all, File{Path: c.path, Mode: 0o644, Content: text.Bytes()})
	}
	manual, err := manual(root, zsha)
	return append(all, manual...), err
}

// Command writes the files below a directory, for who builds packages. zsha is called for the source tool's commands.
func Command(zsha func() *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "host-files DIR", Short: "Write the files that lie on a host beside the program", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := All(c.Root(), zsha())
			if err != nil {
				return err
			}
			for _, f := range all {
				if err := f.write(args[0]); err != nil {
					return fmt.Errorf("write the files of a host: %w", err)
				}
			}
			return nil
		},
	}
}

// write makes the file below a directory where it is not yet.
func (f File) write(dir string) error {
	path := filepath.Join(dir, f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if f.Target != "" {
		return os.Symlink(f.Target, path)
	}
	return os.WriteFile(path, f.Content, f.Mode)
}
