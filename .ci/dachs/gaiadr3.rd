<resource schema="gaiadr3" resdir="gaiadr3">
  <meta name="title">Made-up Gaia-like tables</meta>
  <meta name="creationDate">2026-11-22T00:00:00Z</meta>
  <meta name="description">Random rows under the table and column names of Gaia DR3, made for the
    tests of gaia_redshift. Nothing in here was measured.</meta>
  <meta name="subject">galaxies</meta>
  <meta name="creator">The gaia_redshift developers</meta>

  <STREAM id="load">
    <data id="import_\table">
      <sources>data/\table.csv</sources>
      <csvGrammar/>
      <make table="\table">
        <rowmaker idmaps="*">
          <apply name="clear_empty">
            <code>
              # An empty cell of a text column is missing, too.
              for name, value in list(vars.items()):
                if value == "":
                  vars[name] = None
            </code>
          </apply>
        </rowmaker>
      </make>
    </data>
  </STREAM>

  <STREAM id="classprobs">
    <column name="classprob_dsc_combmod_galaxy" ucd="stat.probability"
      description="Probability of being a galaxy, from DSC-Combmod"/>
    <column name="classprob_dsc_combmod_quasar" ucd="stat.probability"
      description="Probability of being a quasar, from DSC-Combmod"/>
    <column name="classlabel_dsc_joint" type="text" ucd="meta.code.class;src.class"
      description="Class from the combined DSC classifiers"/>
  </STREAM>

  <table id="gaia_source" onDisk="True" adql="True" mixin="//scs#q3cindex" primary="source_id">
    <meta name="description">Sources: positions, magnitudes, which products exist</meta>
    <column name="source_id" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Source identifier"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main"
      description="Right ascension (ICRS)"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main"
      description="Declination (ICRS)"/>
    <column name="parallax" type="double precision" unit="mas" ucd="pos.parallax.trig"
      description="Parallax"/>
    <column name="pmra" type="double precision" unit="mas/yr" ucd="pos.pm;pos.eq.ra"
      description="Proper motion in right ascension, times cos(dec)"/>
    <column name="pmdec" type="double precision" unit="mas/yr" ucd="pos.pm;pos.eq.dec"
      description="Proper motion in declination"/>
    <column name="phot_g_mean_mag" unit="mag" ucd="phot.mag;em.opt"
      description="G-band mean magnitude"/>
    <column name="phot_bp_mean_mag" unit="mag" ucd="phot.mag;em.opt.B"
      description="BP mean magnitude"/>
    <column name="phot_rp_mean_mag" unit="mag" ucd="phot.mag;em.opt.R"
      description="RP mean magnitude"/>
    <column name="has_xp_continuous" type="boolean" required="True" ucd="meta.code"
      description="A mean BP/RP spectrum is published"/>
    <column name="in_galaxy_candidates" type="boolean" required="True" ucd="meta.code"
      description="Has a row in galaxy_candidates"/>
    <column name="in_qso_candidates" type="boolean" required="True" ucd="meta.code"
      description="Has a row in qso_candidates"/>
  </table>
  <FEED source="load" table="gaia_source"/>

  <table id="galaxy_candidates" onDisk="True" adql="True" primary="source_id">
    <meta name="description">Galaxy candidates</meta>
    <column name="source_id" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Source identifier"/>
    <FEED source="classprobs"/>
    <column name="vari_best_class_name" type="text" ucd="meta.code.class;src.var"
      description="Best class from the variability classification"/>
    <column name="radius_sersic" type="double precision" unit="mas" ucd="phys.angSize"
      description="Effective radius of a fitted Sersic profile"/>
    <column name="redshift_ugc" ucd="src.redshift"
      description="Redshift from the Unresolved Galaxy Classifier"/>
    <column name="redshift_ugc_lower" ucd="src.redshift;stat.min"
      description="Lower bound of redshift_ugc"/>
    <column name="redshift_ugc_upper" ucd="src.redshift;stat.max"
      description="Upper bound of redshift_ugc"/>
  </table>
  <FEED source="load" table="galaxy_candidates"/>

  <table id="qso_candidates" onDisk="True" adql="True" primary="source_id">
    <meta name="description">Quasar candidates</meta>
    <column name="source_id" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Source identifier"/>
    <FEED source="classprobs"/>
    <column name="vari_best_class_name" type="text" ucd="meta.code.class;src.var"
      description="Best class from the variability classification"/>
    <column name="gaia_crf_source" type="boolean" required="True" ucd="meta.code"
      description="Belongs to the celestial reference frame"/>
    <column name="host_galaxy_flag" type="smallint" required="True" ucd="meta.code"
      description="What is known of a host galaxy: below 6, something was looked for"/>
    <column name="redshift_qsoc" ucd="src.redshift"
      description="Redshift from the quasar classifier"/>
    <column name="redshift_qsoc_lower" ucd="src.redshift;stat.min"
      description="Lower bound of redshift_qsoc"/>
    <column name="redshift_qsoc_upper" ucd="src.redshift;stat.max"
      description="Upper bound of redshift_qsoc"/>
    <column name="flags_qsoc" type="bigint" required="True" ucd="meta.code.qual"
      description="Processing flags; 0 is clean"/>
  </table>
  <FEED source="load" table="qso_candidates"/>

  <table id="xp_continuous_mean_spectrum" onDisk="True" adql="True" primary="source_id">
    <meta name="description">Coefficients of mean spectra, as mirrors of the archive have them</meta>
    <column name="source_id" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Source identifier"/>
    <LOOP listItems="bp rp">
      <events>
        <column name="\item\+_basis_function_id" type="smallint" required="True" ucd="meta.id"
          description="Set of basis functions"/>
        <column name="\item\+_n_parameters" type="smallint" required="True" ucd="meta.number"
          description="Number of coefficients"/>
        <column name="\item\+_coefficients" type="double precision[]" ucd="phot.flux"
          description="Coefficients"/>
        <column name="\item\+_coefficient_errors" type="real[]" ucd="stat.error"
          description="Errors of the coefficients"/>
        <column name="\item\+_coefficient_correlations" type="real[]" ucd="stat.correlation"
          description="Correlations of the coefficients"/>
      </events>
    </LOOP>
  </table>
  <data id="import_xp_continuous_mean_spectrum">
    <sources>data/xp_continuous_mean_spectrum.csv</sources>
    <csvGrammar/>
    <make table="xp_continuous_mean_spectrum">
      <rowmaker idmaps="*">
        <apply name="read_arrays">
          <code>
            for name, value in list(vars.items()):
              if name.split("_")[1:2] and name.split("_")[1] in ("coefficients", "coefficient"):
                vars[name] = [float(part) for part in value.split()]
          </code>
        </apply>
      </rowmaker>
    </make>
  </data>
</resource>
