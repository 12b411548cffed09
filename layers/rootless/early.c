int cooper_userns_early = 1; /* read by layers/internal/userns */
