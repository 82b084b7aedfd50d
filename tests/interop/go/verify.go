// Verifies what a log gives out with Go's golang.org/x/mod/sumdb/note and tlog: code that is not ours.
//
//	verify VKEY [-witness VKEY] tiles FOLDER        every leaf of an exported folder, proofs made from its tiles
//	verify VKEY [-witness VKEY] proof FILE          a C2SP tlog-proof with the entry in its extra data
//	verify VKEY [-witness VKEY] grown OLD ADD       OLD is a checkpoint, ADD an add-checkpoint body that continues it
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("too few arguments")
	}
	keys, err := newTrust(args[0])
	if err != nil {
		return err
	}
	args = args[1:]
	if args[0] == "-witness" {
		if keys.witness, err = newCosigner(args[1]); err != nil {
			return err
		}
		args = args[2:]
	}
	switch {
	case args[0] == "tiles" && len(args) == 2:
		return tiles(keys, args[1])
	case args[0] == "proof" && len(args) == 2:
		return proof(keys, args[1])
	case args[0] == "grown" && len(args) == 3:
		return grown(keys, args[1], args[2])
	}
	return fmt.Errorf("unknown command %q", args)
}

// trust is the log's key and, if one is asked for, a witness's.
type trust struct {
	log     note.Verifier
	witness note.Verifier
}

func newTrust(vkey string) (*trust, error) {
	log, err := note.NewVerifier(vkey)
	return &trust{log: log}, err
}

// checkpoint opens a signed note and reads it as a C2SP tlog-checkpoint.
func (t *trust) checkpoint(text string) (tree tlog.Tree, err error) {
	known := []note.Verifier{t.log}
	if t.witness != nil {
		known = append(known, t.witness)
	}
	opened, err := note.Open([]byte(text), note.VerifierList(known...))
	if err != nil {
		return tree, err
	}
	if len(opened.Sigs) != len(known) {
		return tree, fmt.Errorf("%d of %d signatures wanted are there", len(opened.Sigs), len(known))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != t.log.Name() {
		return tree, fmt.Errorf("not a checkpoint of %s: %q", t.log.Name(), opened.Text)
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// cosigner verifies C2SP tlog-cosignature lines, for which x/mod has no verifier of its own.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("malformed witness key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, errors.New("not a key of type 0x04")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("witness key id does not match")
	}
	return &cosigner{parts[0], hash, key[1:]}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

// folder reads tiles of height 8 as C2SP tlog-tiles names them.
type folder string

func (f folder) Height() int                      { return 8 }
func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		bytes, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		data = append(data, bytes)
	}
	return data, nil
}

// bundle reads the entries of one bundle.
func (f folder) bundle(n int64, width int) (entries [][]byte, err error) {
	tile := tlog.Tile{H: 8, L: 0, N: n, W: width}
	path := "tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/")
	bytes, err := os.ReadFile(filepath.Join(string(f), path))
	if err != nil {
		return nil, err
	}
	for len(bytes) > 0 {
		if len(bytes) < 2 || len(bytes) < 2+int(binary.BigEndian.Uint16(bytes)) {
			return nil, errors.New("bundle cut short")
		}
		end := 2 + int(binary.BigEndian.Uint16(bytes))
		entries = append(entries, bytes[2:end])
		bytes = bytes[end:]
	}
	if len(entries) != width {
		return nil, fmt.Errorf("%s has %d entries", path, len(entries))
	}
	return entries, nil
}

func tiles(keys *trust, path string) error {
	text, err := os.ReadFile(filepath.Join(path, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := keys.checkpoint(string(text))
	if err != nil {
		return err
	}
	dir := folder(path)
	hashes := tlog.TileHashReader(tree, dir)
	for first := int64(0); first < tree.N; first += 256 {
		width := 256
		if tree.N-first < 256 {
			width = int(tree.N - first)
		}
		entries, err := dir.bundle(first/256, width)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			n := first + int64(i)
			proof, err := tlog.ProveRecord(tree.N, n, hashes)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(entry)); err != nil {
				return fmt.Errorf("entry %d: %w", n, err)
			}
		}
	}
	for old := int64(1); old <= tree.N; old++ {
		root, err := tlog.TreeHash(old, hashes)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, old, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old, root); err != nil {
			return fmt.Errorf("growth from %d: %w", old, err)
		}
	}
	fmt.Printf("ok %d\n", tree.N)
	return nil
}

func proof(keys *trust, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof with extra data")
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	hashes, err := parseHashes(lines[3:])
	if err != nil {
		return err
	}
	tree, err := keys.checkpoint(checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(hashes, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
		return err
	}
	fmt.Printf("ok %d of %d\n", index, tree.N)
	return nil
}

func grown(keys *trust, oldPath, addPath string) error {
	oldText, err := os.ReadFile(oldPath)
	if err != nil {
		return err
	}
	old, err := keys.checkpoint(string(oldText))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(addPath)
	if err != nil {
		return err
	}
	head, checkpoint, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if lines[0] != fmt.Sprintf("old %d", old.N) {
		return fmt.Errorf("%q, the old checkpoint has %d", lines[0], old.N)
	}
	hashes, err := parseHashes(lines[1:])
	if err != nil {
		return err
	}
	tree, err := keys.checkpoint(checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(hashes, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return err
	}
	fmt.Printf("ok %d to %d\n", old.N, tree.N)
	return nil
}

func parseHashes(lines []string) (hashes []tlog.Hash, err error) {
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}
