package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// password is the one of the user "me" of registries that want a password,
// "secret", as htpasswd -B has it.
const password = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

// startRegistry is the command
//
//	registry VARIABLE [password] [tls]
//
// which starts Debian's docker-registry until the script ends; VARIABLE is
// its host and port. With tls it speaks HTTPS, and VARIABLE_CERTS is a directory
// with the certificate that it shows.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: registry variable [password] [tls]")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	host := l.Addr().String()
	ts.Check(l.Close())
	dir := ts.MkAbs("registry-" + args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, host)
	client, scheme := http.DefaultClient, "http://"
	if slices.Contains(args[1:], "tls") {
		certs := filepath.Join(dir, "certs")
		var section string
		client, section = serveTLS(ts, dir, certs)
		config = strings.TrimSuffix(config, "}\n") + ", " + section + "}\n"
		scheme = "https://"
		ts.Setenv(args[0]+"_CERTS", certs)
	}
	if slices.Contains(args[1:], "password") {
		users := filepath.Join(dir, "users")
		ts.Check(os.WriteFile(users, []byte(password), 0o644))
		config += fmt.Sprintf("auth: {htpasswd: {realm: here, path: %s}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	ts.Check(os.WriteFile(file, []byte(config), 0o644))
	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := client.Get(scheme + host + "/v2/"); err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("docker-registry does not answer")
		}
	}
	ts.Setenv(args[0], host)
}

// serveTLS makes a certificate for 127.0.0.1, signed by itself, and puts it into
// certs as containers-certs.d(5) wants it. It returns a client that trusts it and
// the registry's configuration.
func serveTLS(ts *testscript.TestScript, dir, certs string) (client *http.Client, section string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "here"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.MkdirAll(certs, 0o755))
	keyFile, certFile := filepath.Join(dir, "key.pem"), filepath.Join(certs, "ca.crt")
	ts.Check(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	ts.Check(os.WriteFile(certFile, public, 0o644))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	return client, fmt.Sprintf("tls: {certificate: %s, key: %s}", certFile, keyFile)
}
