# SPDX-License-Identifier: MIT
# Draws what `freqkv-llama spectrum --out DIR` wrote, as DIR/layers.svg (the paper's Figure 1) and DIR/heads.svg (its
# Figure 7):
#
#     gnuplot -c scripts/spectrum.gp DIR

dir = ARG1
layers_csv = dir.'/layers.csv'
heads_csv = dir.'/heads.csv'
set datafile separator ','
stats layers_csv using 2 skip 1 nooutput
frequencies = int(STATS_max) + 1
layers = STATS_records / frequencies
stats heads_csv using 2 skip 1 nooutput
heads = int(STATS_max) + 1

# Neighbouring frequencies are drawn as their mean, eight to an octave; the mean of the window, frequency 0, at 1/2.
place(k) = k == 0 ? 0.5 : k < 12 ? k : 2 ** ((floor(8 * log(k) / log(2)) + 0.5) / 8)

set logscale xy
set format y '10^{%T}'
set xrange [0.4:1.1 * frequencies]
set xtics ('mean' 0.5, '2' 2, '8' 8, '32' 32, '128' 128, '512' 512, '2048' 2048, '8192' 8192)
set tics nomirror
unset mxtics
unset mytics
set border 3
set grid linecolor rgb '#dddddd'
set palette defined (0 '#f0d000', 0.25 '#5ec962', 0.5 '#21918c', 0.75 '#3b528b', 1 '#440154')
unset key
unset colorbox

set terminal svg size 900,440 font 'sans,13' background rgb 'white'
set output dir.'/layers.svg'
set cbrange [0:layers - 1]
set cblabel 'layer'
set xlabel 'frequency, half turns in the window'
set multiplot layout 1,2
set title 'keys before RoPE'
set ylabel 'power'
plot for [l = 0:layers - 1] layers_csv skip 1 every ::l * frequencies::(l + 1) * frequencies - 1 \
    using (place($2)):3 smooth unique with lines linewidth 1.3 linecolor palette cb l notitle
set colorbox
set title 'values'
unset ylabel
plot for [l = 0:layers - 1] layers_csv skip 1 every ::l * frequencies::(l + 1) * frequencies - 1 \
    using (place($2)):4 smooth unique with lines linewidth 1.3 linecolor palette cb l notitle
unset multiplot
unset colorbox
unset xlabel

set terminal svg size 1000,480 font 'sans,12' background rgb 'white'
set output dir.'/heads.svg'
set cbrange [0:heads]
set xtics ('mean' 0.5, '8' 8, '128' 128, '2048' 2048)
set multiplot layout 2,4
do for [s in 'keys values'] {
    do for [part = 0:3] {
        first = int(part * (layers - 1) / 3) * heads
        stats heads_csv skip 1 every ::first * frequencies::first * frequencies using 1 nooutput
        set title sprintf('%s, layer %d', s, STATS_max)
        plot for [h = first:first + heads - 1] heads_csv skip 1 every ::h * frequencies::(h + 1) * frequencies - 1 \
            using (place($3)):(column(s eq 'keys' ? 4 : 5)) smooth unique \
            with lines linewidth 1.3 linecolor palette cb h - first notitle
    }
}
unset multiplot
