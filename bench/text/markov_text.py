"""Makes distinct text from a sample: each character follows the two before it as in the sample.

For measuring tokenizers on scripts of which too little text is at hand.
Usage: markov_text.py SAMPLE MEGABYTES > OUT
"""

import collections
import random
import sys


def main() -> None:
    sample = open(sys.argv[1], encoding="utf-8").read()
    size = int(float(sys.argv[2]) * 1e6)
    followers = collections.defaultdict(list)
    for first, second, third in zip(sample, sample[1:], sample[2:]):
        followers[first + second].append(third)
    rng = random.Random(1)
    pair = sample[:2]
    written = 0
    out = []
    while written < size:
        choices = followers.get(pair)
        if not choices:
            start = rng.randrange(len(sample) - 2)
            pair = sample[start : start + 2]
            continue
        character = choices[int(rng.random() * len(choices))]
        out.append(character)
        written += len(character.encode())
        pair = pair[1] + character
    sys.stdout.buffer.write("".join(out).encode())


if __name__ == "__main__":
    main()
