"""From sound to text, without a database: decoding, voice detection, Whisper."""
