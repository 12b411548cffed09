package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cooper/registry"
)

// loginFlags are the flags of login as given.
type loginFlags struct {
	registryFlags
	user, password  string
	stdin, getLogin bool
}

// newLogin makes the login command.
func newLogin(e *Env) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [REGISTRY]",
		Short: "Log in to a registry",
		Long: `Log in to a registry, by default Docker Hub. The password is kept where podman
and skopeo look for it, or with a credential helper if registries.conf names one;
$REGISTRY_AUTH_FILE or --authfile choose another file, such as
~/.docker/config.json for docker.`,
		Example:               "\n  @ registry.example.com\n  @ -u me --password-stdin ghcr.io < token",
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.login(cmd.Context(), &f, cmd.Flags().Changed("password"), strings.Join(args, ""))
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.user, "username", "u", "", "Log in as `USER`")
	fs.StringVarP(&f.password, "password", "p", "", "The `PASSWORD`, which others on this machine can see: use --password-stdin")
	fs.BoolVar(&f.stdin, "password-stdin", false, "Read the password from standard input")
	fs.BoolVar(&f.getLogin, "get-login", false, "Print the user logged in")
	f.declare(fs)
	e.commonFlags(cmd)
	return cmd
}

// login is the login command.
func (e *Env) login(ctx context.Context, f *loginFlags, given bool, arg string) error {
	host, err := registry.RegistryHost(arg)
	if err != nil {
		return err
	}
	client, err := f.client(nil)
	if err != nil {
		return err
	}
	if f.getLogin {
		user, err := client.LoggedIn(host)
		if err == nil && user == "" {
			err = fmt.Errorf("not logged in to %s", host)
		}
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, user)
		}
		return err
	}
	switch {
	case given && f.stdin:
		return errors.New("--password and --password-stdin are mutually exclusive")
	case f.stdin && f.user == "":
		return errors.New("the --password-stdin option requires --username to be set")
	case given:
		fmt.Fprintln(e.Stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	user, password, err := e.credentials(f, given)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	if _, err := client.Login(ctx, host, user, password); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Stdout, "Login Succeeded")
	return err
}

// credentials are what the flags, standard input or the user at a terminal say.
func (e *Env) credentials(f *loginFlags, given bool) (user, password string, err error) {
	user, password = f.user, f.password
	if f.stdin {
		text, err := io.ReadAll(io.LimitReader(e.Stdin, 64<<10))
		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		return user, strings.TrimRight(string(text), "\r\n"), nil
	}
	if (user == "" || !given) && !terminal(e.Stdin) {
		return "", "", withHint(errors.New("cannot perform an interactive login from a non TTY device"),
			"Give the password on standard input: --username USER --password-stdin < FILE")
	}
	if user == "" {
		fmt.Fprint(e.Stderr, "Username: ")
		line, err := bufio.NewReader(e.Stdin).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("read the user name: %w", err)
		}
		user = strings.TrimSpace(line)
	}
	if !given {
		fmt.Fprint(e.Stderr, "Password: ")
		text, err := term.ReadPassword(int(e.Stdin.Fd()))
		fmt.Fprintln(e.Stderr)
		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		password = string(text)
	}
	if user == "" || password == "" {
		return "", "", errors.New("username and password are required")
	}
	return user, password, nil
}

// newLogout makes the logout command.
func newLogout(e *Env) *cobra.Command {
	var f registryFlags
	cmd := &cobra.Command{
		Use:                   "logout [OPTIONS] [REGISTRY]",
		Short:                 "Forget the password for a registry",
		Example:               "\n  @ registry.example.com",
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := registry.RegistryHost(strings.Join(args, ""))
			if err != nil {
				return err
			}
			client := &registry.Client{AuthFile: f.authFile}
			err = client.Logout(host)
			switch {
			case errors.Is(err, registry.ErrNotLoggedIn):
				_, err = fmt.Fprintf(e.Stdout, "Not logged in to %s\n", host)
			case err == nil:
				_, err = fmt.Fprintf(e.Stdout, "Removing login credentials for %s\n", host)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&f.authFile, "authfile", "", "Forget it in `FILE`")
	e.commonFlags(cmd)
	return cmd
}
