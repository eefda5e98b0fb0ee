// Go's own packages judge what Keyturn writes, and make what Keyturn must accept: signed notes by
// golang.org/x/mod/sumdb/note, proofs and tiles by golang.org/x/mod/sumdb/tlog, ML-DSA-44 by crypto/mldsa.
//
// It reads one JSON object on standard input, does what its first argument says, and writes one JSON object; a refusal
// of the packages is printed as {"error": ...}. No check is made here that those packages could make.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Note   string      `json:"note"`
	Vkeys  []string    `json:"vkeys"`
	Name   string      `json:"name"`
	Seed   []byte      `json:"seed"`
	Text   string      `json:"text"`
	Folder string      `json:"folder"`
	Size   int64       `json:"size"`
	Root   tlog.Hash   `json:"root"`
	Leaf   []byte      `json:"leaf"`
	Index  int64       `json:"index"`
	Proof  []tlog.Hash `json:"proof"`
	Old    int64       `json:"old"`
	From   tlog.Hash   `json:"from"`
	Leaves [][]byte    `json:"leaves"`
	Key    []byte      `json:"key"`
	Sig    []byte      `json:"sig"`
	Bytes  []byte      `json:"bytes"`
}

var verbs = map[string]func(request) (any, error){
	"open":       open,
	"sign":       sign,
	"record":     record,
	"tree":       tree,
	"tiles":      tiles,
	"grow":       grow,
	"mldsa":      verifyMldsa,
	"mldsa-sign": signMldsa,
}

func main() {
	var asked request
	answer, err := any(nil), json.NewDecoder(os.Stdin).Decode(&asked)
	if err == nil {
		answer, err = verbs[os.Args[1]](asked)
	}
	if err != nil {
		answer = map[string]string{"error": err.Error()}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		panic(err)
	}
}

// open opens a signed note with the verifier keys that it is handed.
func open(asked request) (any, error) {
	var known []note.Verifier
	for _, vkey := range asked.Vkeys {
		verifier, err := verifierOf(vkey)
		if err != nil {
			return nil, err
		}
		known = append(known, verifier)
	}
	opened, err := note.Open([]byte(asked.Note), note.VerifierList(known...))
	if err != nil {
		return nil, err
	}
	return map[string]any{"text": opened.Text, "signed": names(opened.Sigs), "unknown": names(opened.UnverifiedSigs)}, nil
}

func names(signatures []note.Signature) []string {
	found := []string{}
	for _, each := range signatures {
		found = append(found, each.Name)
	}
	return found
}

// verifierOf lets the package read its own kind of key; the kinds of C2SP tlog-cosignature are put beside it here.
func verifierOf(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, key, _ := strings.Cut(rest, "+")
	typed, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(typed) == 0 || typed[0] == 0x01 {
		return note.NewVerifier(vkey)
	}
	var number uint32
	if _, err := fmt.Sscanf(hash, "%08x", &number); err != nil {
		return nil, err
	}
	return cosigner{name, number, typed[0], typed[1:]}, nil
}

type cosigner struct {
	name string
	hash uint32
	kind byte
	key  []byte
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

// Verify follows C2SP tlog-cosignature: cosignature/v1 for Ed25519 (0x04), subtree/v1 for ML-DSA-44 (0x06).
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) < 8 {
		return false
	}
	at, signature := binary.BigEndian.Uint64(signature), signature[8:]
	switch c.kind {
	case 0x04:
		said := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at, text)
		return ed25519.Verify(c.key, []byte(said), signature)
	case 0x06:
		key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), c.key)
		said, wrong := subtree(c.name, at, string(text))
		return err == nil && wrong == nil && mldsa.Verify(key, said, signature, nil) == nil
	}
	return false
}

// subtree is the message of subtree/v1 over a whole checkpoint: label, cosigner, time, origin, start, end, hash.
func subtree(name string, at uint64, text string) ([]byte, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return nil, fmt.Errorf("%d lines in a checkpoint", len(lines)-1)
	}
	var size uint64
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	said.WriteString("subtree/v1\n\x00")
	said.WriteByte(byte(len(name)))
	said.WriteString(name)
	binary.Write(&said, binary.BigEndian, at)
	said.WriteByte(byte(len(lines[0])))
	said.WriteString(lines[0])
	binary.Write(&said, binary.BigEndian, uint64(0))
	binary.Write(&said, binary.BigEndian, size)
	said.Write(root)
	return said.Bytes(), nil
}

// sign makes a note under a key that follows from the seed; returns the note and its verifier key.
func sign(asked request) (any, error) {
	skey, vkey, err := note.GenerateKey(bytes.NewReader(asked.Seed), asked.Name)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, err
	}
	made, err := note.Sign(&note.Note{Text: asked.Text}, signer)
	return map[string]string{"note": string(made), "vkey": vkey}, err
}

func record(asked request) (any, error) {
	return map[string]bool{"holds": true}, tlog.CheckRecord(asked.Proof, asked.Size, asked.Root, asked.Index, tlog.RecordHash(asked.Leaf))
}

func tree(asked request) (any, error) {
	return map[string]bool{"holds": true}, tlog.CheckTree(asked.Proof, asked.Size, asked.Root, asked.Old, asked.From)
}

// shelf reads the files of C2SP tlog-tiles, which lack the height in the names that this package would give them.
type shelf struct{ folder string }

func (s shelf) Height() int                         { return 8 }
func (s shelf) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (s shelf) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := [][]byte{}
	for _, tile := range wanted {
		name := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(s.folder, name))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

// tiles computes the root from the static files, proves from them that every entry in the bundles stands in the tree,
// and that every earlier tree is its beginning.
func tiles(asked request) (any, error) {
	from := tlog.TileHashReader(tlog.Tree{N: asked.Size, Hash: asked.Root}, shelf{asked.Folder})
	entries := int64(0)
	for entries < asked.Size {
		width := min(256, asked.Size-entries)
		name := tlog.Tile{H: 8, L: 0, N: entries / 256, W: int(width)}.Path()
		data, err := os.ReadFile(filepath.Join(asked.Folder, "tile/entries", strings.TrimPrefix(name, "tile/8/0/")))
		if err != nil {
			return nil, err
		}
		for ; len(data) >= 2; entries++ {
			length := 2 + int(binary.BigEndian.Uint16(data))
			if err := holds(asked, from, entries, data[2:length]); err != nil {
				return nil, err
			}
			data = data[length:]
		}
	}
	root, err := tlog.TreeHash(asked.Size, from)
	return map[string]any{"root": root, "entries": entries}, err
}

func holds(asked request, from tlog.HashReader, index int64, entry []byte) error {
	proof, err := tlog.ProveRecord(asked.Size, index, from)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, asked.Size, asked.Root, index, tlog.RecordHash(entry)); err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	earlier, err := tlog.TreeHash(index+1, from)
	if err != nil {
		return err
	}
	grown, err := tlog.ProveTree(asked.Size, index+1, from)
	if err != nil {
		return err
	}
	return tlog.CheckTree(grown, asked.Size, asked.Root, index+1, earlier)
}

// grow builds a tree from leaves and returns every root, and the proofs of every entry and beginning of the last.
func grow(asked request) (any, error) {
	var stored []tlog.Hash
	from := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := []tlog.Hash{}
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	roots := []tlog.Hash{}
	for n, leaf := range asked.Leaves {
		made, err := tlog.StoredHashes(int64(n), leaf, from)
		if err != nil {
			return nil, err
		}
		stored = append(stored, made...)
		root, err := tlog.TreeHash(int64(n)+1, from)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	records, trees := []tlog.RecordProof{}, []tlog.TreeProof{}
	for n := range int64(len(asked.Leaves)) {
		one, err := tlog.ProveRecord(int64(len(asked.Leaves)), n, from)
		if err != nil {
			return nil, err
		}
		two, err := tlog.ProveTree(int64(len(asked.Leaves)), n+1, from)
		if err != nil {
			return nil, err
		}
		records, trees = append(records, one), append(trees, two)
	}
	return map[string]any{"roots": roots, "records": records, "trees": trees}, nil
}

func verifyMldsa(asked request) (any, error) {
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), asked.Key)
	if err != nil {
		return nil, err
	}
	return map[string]bool{"holds": true}, mldsa.Verify(key, asked.Bytes, asked.Sig, nil)
}

// signMldsa signs a checkpoint as a cosigner of kind 0x06 whose key follows from the seed, at the time in Size.
func signMldsa(asked request) (any, error) {
	key, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), asked.Seed)
	if err != nil {
		return nil, err
	}
	said, err := subtree(asked.Name, uint64(asked.Size), asked.Text)
	if err != nil {
		return nil, err
	}
	made, err := key.Sign(nil, said, &mldsa.Options{})
	return map[string][]byte{"key": key.PublicKey().Bytes(), "sig": made}, err
}
